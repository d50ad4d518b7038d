"""Query strings: finding a parameter and removing it, whatever its percent-encoding."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote_plus


def parameter_name(field: str) -> str:
    """Return the decoded name of one `name=value` of a query string."""
    name = field.partition("=")[0]
    return unquote_plus(name) if "%" in name or "+" in name else name


def parameter_values(query: str, name: str) -> list[str]:
    """Return the decoded values of a parameter, in order."""
    return [unquote_plus(field.partition("=")[2]) for field in query.split("&") if parameter_name(field) == name]


def strip_query(query: str, names: Collection[str]) -> str:
    """Return a query string without some parameters, the rest of it byte for byte.

    Args:
        query: without `?`, percent-encoding kept.
        names: decoded names, as in `Verifier.credential_query`.
    """
    if not names or not query:
        return query
    return "&".join(field for field in query.split("&") if parameter_name(field) not in names)
