"""Reads values of requests: headers, parameters of query strings, fields of JSON bodies.

Parameters of query strings, and headers that repeat them, are found whatever the percent-encoding. Source:
https://url.spec.whatwg.org/#application/x-www-form-urlencoded, which is how senders and flows read them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from flowhook.providers.scheme import FieldLocation
from flowhook.signatures.types import RequestView, SignatureError, json_of


def single_header(headers: Sequence[tuple[str, bytes]], name: str, *, kind: str) -> bytes | None:
    """Return the value of a header of a lower-case name, None when it is not there; SignatureError: it is repeated.

    Then no value is preferred, because that would be a guess. `kind` begins the reason: `SIGNATURE` or `CREDENTIALS`.
    """
    values = [value for key, value in headers if key == name]
    if not values:
        return None
    if len(values) > 1:
        raise SignatureError(f"header {name} occurs {len(values)} times", reason=f"{kind}_MALFORMED")
    return values[0]


def required_header(headers: Sequence[tuple[str, bytes]], name: str, *, kind: str) -> bytes:
    value = single_header(headers, name, kind=kind)
    if value is None:
        raise SignatureError(f"header {name} is missing", reason=f"{kind}_MISSING")
    return value


MAX_PARAMETERS: Final = 1000  # maximum number of parameters in a query string that is searched for credentials
# Maximum number of values that are searched for in headers; a credential that is sent twice is refused.
MAX_CREDENTIALS: Final = 16
MIN_CREDENTIAL_BYTES: Final = 4  # a shorter value is not a credential, and nearly every header would contain it
MAX_ENCODINGS: Final = 2  # levels of nested percent-encoding that are decoded


def parameter_values(query: str, name: str) -> list[tuple[bytes, ...]]:
    """Return a parameter's values, each with its readings (`+` is a space, or itself); SignatureError: too many."""
    if query.count("&") >= MAX_PARAMETERS:
        raise SignatureError(f"the query has more than {MAX_PARAMETERS} parameters", reason="SIGNATURE_MALFORMED")
    values: list[tuple[bytes, ...]] = []
    for field in query.split("&"):
        if name_of(field) == name:
            raw = _encode(field.partition("=")[2])
            readings = (raw.replace(b"+", b" "), raw) if b"+" in raw else (raw,)
            values.append(tuple(map(unquote_to_bytes, readings)))
    return values


def credentials_of(query: str, names: Collection[str]) -> list[bytes]:
    """Return the decoded values of the first few parameters of these (decoded) names, which may be credentials."""
    found: list[bytes] = []
    for field in query.split("&") if names and query else ():
        for part in (field, *field.split(";")) if ";" in field else (field,):
            found += [unquote_to_bytes(_encode(part.partition("=")[2]))] if name_of(part) in names else []
        if len(found) >= MAX_CREDENTIALS:
            break
    return [value for value in found if len(value) >= MIN_CREDENTIAL_BYTES]


def contains_credential(value: bytes, credentials: Collection[bytes]) -> bool:
    """Whether the value of a header contains a credential: as it is, or percent-encoded once or twice."""
    wanted = [_spaced(credential) for credential in credentials]
    for level in range(MAX_ENCODINGS + 1):
        if level:
            if b"%" not in value:
                return False
            value = unquote_to_bytes(value)
        spaced = _spaced(value)
        if any(credential in spaced for credential in wanted):
            return True
    return False


def without_credential_copies(
    headers: tuple[tuple[str, bytes], ...], credentials: Collection[bytes]
) -> tuple[tuple[str, bytes], ...]:
    if not credentials or not contains_credential(b"\n".join([value for _, value in headers]), credentials):
        return headers
    return tuple([field for field in headers if not contains_credential(field[1], credentials)])


def _spaced(text: bytes) -> bytes:
    """Replace every `+` by a space, because some senders write a space as `+`, and others write both."""
    return text.replace(b"+", b" ")


def name_of(field: str) -> str:
    """Return the decoded name of one `name=value` of a query string. Never raises."""
    name = field.partition("=")[0]
    if "%" not in name and "+" not in name:
        return name
    return unquote_to_bytes(_encode(name).replace(b"+", b" ")).decode("utf-8", "replace")


def strip_query(query: str, names: Collection[str]) -> str:
    """Return a query string without some parameters, named decoded; the rest of it is unchanged.

    A field is also removed if one of the names follows a `;` in it: some senders use that as a separator.
    """
    if not names or not query:
        return query
    return "&".join(
        field
        for field in query.split("&")
        if name_of(field) not in names and not any(name_of(part) in names for part in field.split(";")[1:])
    )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


MAX_NUMBERED: Final = 16  # numbered headers of one name that are read


def extract_values(request: RequestView, location: FieldLocation) -> list[bytes]:
    """Return the values at a location; at most one, except in numbered headers and for `+` in the query string.

    The location is any but a `pair`, with names of headers in lower case. The body is only read for a `field`.
    SignatureError: there are several where only one is allowed (`SIGNATURE_MALFORMED`).
    """
    if location.kind == "header":
        value = single_header(request.headers, location.name, kind="SIGNATURE")
        return [] if value is None else [value]
    if location.kind == "numbered":
        names = (f"{location.name}{number}" for number in range(1, MAX_NUMBERED + 1))
        found = (single_header(request.headers, name, kind="SIGNATURE") for name in names)
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
    """Return a string or a whole number in a request's JSON body as text, or None if absent. Never raises.

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
