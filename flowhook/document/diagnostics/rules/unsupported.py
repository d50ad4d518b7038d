"""Features of the DSL that Flowhook does not support.

They are refused by name when a flow is applied, with an alternative: nothing in a flow file is ever silently ignored.
To support one of them, add a model and an implementation in the runner, and remove it from its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROCESSES: Final[Mapping[str, str]] = {
    "container": "containers are not supported, because starting them gives control of the machine; "
    "use `script`, `shell`, or `call: http` to a service that runs elsewhere"
}
"""Cause by key of `run`."""

AUTHENTICATIONS: Final[Mapping[str, str]] = {
    "certificate": "client certificates are not supported: the DSL does not define them yet; "
    "use basic, bearer, digest, oauth2 or oidc"
}
"""Cause by key of an authentication policy."""

FUNCTIONS: Final[Mapping[str, str]] = {
    "a2a": "A2A calls are not supported: they would follow an agent's tasks over time; "
    "`call: http` sends a single JSON-RPC request",
}
"""Cause by name of the called function; a component of that name takes precedence."""

KEYS: Final[Mapping[tuple[str, ...], str]] = {
    ("specVersion",): "documents of DSL versions before 1.0 are not supported",
}
"""Cause by path from the top of a document."""
