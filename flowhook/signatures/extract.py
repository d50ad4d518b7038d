"""Reads the values of a scheme from headers, from the query string and from the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowhook.providers.scheme import FieldLocation
from flowhook.signatures.headers import single_header
from flowhook.signatures.json_body import json_of
from flowhook.signatures.query import parameter_values
from flowhook.signatures.types import RequestView, SignatureError

MAX_NUMBERED: Final = 16
"""Numbered headers of one name that are read."""


def extract_values(request: RequestView, location: FieldLocation) -> list[bytes]:
    """Return the values at a location; at most one, except in numbered headers and for `+` in the query string.

    Args:
        request: the request; its body is only read for a `field`.
        location: any but a `pair`; names of headers in lower case.

    Raises:
        SignatureError: there are several where only one is allowed (`SIGNATURE_MALFORMED`).
    """
    if location.kind == "header":
        value = single_header(request.headers, location.name, kind="SIGNATURE")
        return [] if value is None else [value]
    if location.kind == "numbered":
        found = [
            single_header(request.headers, f"{location.name}{n}", kind="SIGNATURE") for n in range(1, MAX_NUMBERED + 1)
        ]
        return [value for value in found if value is not None]
    if location.kind == "query":
        values = parameter_values(request.query, location.name)
        if len(values) > 1:
            raise SignatureError(
                f"query parameter {location.name} occurs {len(values)} times", reason="SIGNATURE_MALFORMED"
            )
        return list(values[0]) if values else []
    value = json_field(request, location.name)
    return [] if value is None else [value]


def json_field(request: RequestView, path: str) -> bytes | None:
    """Return a string or a whole number in a request's JSON body as text, or None when there is none. Never raises.

    `path` is names joined by dots; a name of digits is an index where the value is an array.
    """
    value: Any = json_of(request)
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 6 and int(name) < len(value):  # noqa: PLR2004
            value = value[int(name)]
        else:
            return None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return str(value).encode() if isinstance(value, int) and not isinstance(value, bool) else None
