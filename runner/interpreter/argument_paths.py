"""Paths of endpoints and authentication policies in the arguments of the DSL's own functions.

Source: dsl-reference.md, "HTTP Call", "gRPC Call", "OpenAPI Call", "Script Process", "External Resource",
"Endpoint", "OAUTH2 Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ArgumentPath = tuple[str, ...]
"""Keys from `with` down to a value."""

ENDPOINTS: Final[Mapping[str, ArgumentPath]] = {
    "grpc": ("proto", "endpoint"),
    "http": ("endpoint",),
    "openapi": ("document", "endpoint"),
    "run.script": ("source", "endpoint"),
}
"""The endpoint of a function: a URI, or a mapping with `uri`."""

POLICIES: Final[Mapping[str, tuple[ArgumentPath, ...]]] = {
    "grpc": (("proto", "endpoint", "authentication"), ("service", "authentication")),
    "http": (("endpoint", "authentication"),),
    "openapi": (("document", "endpoint", "authentication"), ("authentication",)),
    "run.script": (("source", "endpoint", "authentication"),),
}
"""The authentication policies of a function; the last one is that of the call itself."""

POLICY_URIS: Final[tuple[ArgumentPath, ...]] = (
    ("oauth2", "authority"),
    ("oauth2", "endpoints", "token"),
    ("oidc", "authority"),
)
"""The URI templates in a policy."""


def find(arguments: Mapping[str, Any], place: ArgumentPath) -> Any:
    """Return the value at a place, None if there is none."""
    value: Any = arguments
    for key in place:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def put(arguments: Mapping[str, Any], place: ArgumentPath, value: Any) -> dict[str, Any]:
    """Return a copy of the arguments with another value at a place; all values above it must be mappings."""
    key, *rest = place
    return {**arguments, key: put(arguments[key], tuple(rest), value) if rest else value}
