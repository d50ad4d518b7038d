"""Features of the DSL that Flowhook does not support.

They are refused by name when a flow is applied, with an alternative: nothing in a flow file is ever silently ignored.
To support one of them, add a model and an implementation in the runner, and remove it from its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowhook.document.codes import Code
from flowhook.document.problems import Problem

PROCESSES: Final[Mapping[str, str]] = {
    "container": "containers are not supported: whoever may start them owns the machine that runs them; "
    "there are `script`, `shell`, and `call: http` to what runs elsewhere",
}
"""Cause by key of `run`."""

AUTHENTICATIONS: Final[Mapping[str, str]] = {
    "certificate": "client certificates are not supported: the DSL has no place for one yet; "
    "there are basic, bearer, digest, oauth2 and oidc",
}
"""Cause by key of an authentication policy."""

FUNCTIONS: Final[Mapping[str, str]] = {
    "a2a": "A2A calls are not supported: they follow tasks of an agent for as long as those last; "
    "`call: http` sends a single JSON-RPC request",
    "asyncapi": "AsyncAPI calls are not supported: there are no connections to message brokers; "
    "`call: http` and `emit` with `metadata.sink` send over HTTP, a webhook or callback takes messages in",
    "mcp": "MCP calls are not supported: they keep a session with a server, or a process; "
    "`call: http` sends a single JSON-RPC request",
}
"""Cause by name of the called function; a component of that name takes precedence."""

CATALOGS: Final = (
    "catalogs are not supported: what a flow runs would be fetched from elsewhere, whatever it is by then; "
    "write the function into `use.functions`, or install a component"
)
"""Cause for functions from catalogs, and for `use.catalogs`."""

KEYS: Final[Mapping[tuple[str, ...], str]] = {
    ("use", "catalogs"): CATALOGS,
    ("specVersion",): "documents of the DSL from before its version 1.0 are not supported",
}
"""Cause by path from the top of a document."""


def in_document(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the unsupported features of a document outside of its tasks."""
    for keys, cause in KEYS.items():
        node: Any = data
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        if node is not None:
            yield Problem(keys, Code.UNSUPPORTED, cause)
