"""Patterns of flow names, namespaces and versions, and the ID of a flow."""

from __future__ import annotations

from typing import Final

NAME_PATTERN: Final = r"^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$"
"""Names and namespaces: like a DNS label, letters of either case."""

SEMANTIC_VERSION_PATTERN: Final = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
)

VERSION_OR_LATEST_PATTERN: Final = rf"^latest$|{SEMANTIC_VERSION_PATTERN}"


def flow_id(namespace: str, name: str) -> str:
    """Return `name` in the namespace `default`, else `namespace.name`; at most 127 characters."""
    return name if namespace == "default" else f"{namespace}.{name}"
