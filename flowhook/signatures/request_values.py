"""Reads values of requests: headers, parameters of query strings, fields of JSON bodies.

Parameters of query strings, and headers that repeat them, are found whatever the percent-encoding. Source:
https://url.spec.whatwg.org/#application/x-www-form-urlencoded, which is how senders and flows read them.

The sender determines the cost of parsing a body, and nothing else runs meanwhile: not even other threads. So a body is
parsed once for all readers (`RequestView.json`). A body that is larger than `MAX_JSON_BYTES` is only parsed if the
flow's own `max_body` allows it, and never if it has more than `MAX_VALUES` values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import attrs
import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json.bounded import check_value_count, load_json
from flowhook.providers.scheme import FieldLocation
from flowhook.signatures.types import RequestView, SignatureError


def single_header(headers: Sequence[tuple[str, bytes]], name: str, *, kind: str) -> bytes | None:
    """Return the value of a header, or None when it is not there.

    Args:
        headers: lower-case names and values.
        name: lower case.
        kind: `SIGNATURE` or `CREDENTIALS`, the prefix of the reason of an error.

    Raises:
        SignatureError: it is repeated: no value is preferred, because that would be a guess.
    """
    values = [value for key, value in headers if key == name]
    if not values:
        return None
    if len(values) > 1:
        raise SignatureError(f"header {name} occurs {len(values)} times", reason=f"{kind}_MALFORMED")
    return values[0]


MAX_PARAMETERS: Final = 1000  # maximum number of parameters in a query string that is searched for credentials

MAX_CREDENTIALS: Final = 16
"""Maximum number of values that are searched for in headers; a credential that is sent twice is refused."""

MIN_CREDENTIAL_BYTES: Final = 4  # a shorter value is not a credential, and nearly every header would contain it
MAX_ENCODINGS: Final = 2  # levels of nested percent-encoding that are decoded


def parameter_values(query: str, name: str) -> list[tuple[bytes, ...]]:
    """Return the values of a parameter, in order, each with its possible readings: `+` as a space, and as itself.

    Raises:
        SignatureError: there are too many parameters (`SIGNATURE_MALFORMED`).
    """
    if query.count("&") >= MAX_PARAMETERS:
        raise SignatureError(f"the query has more than {MAX_PARAMETERS} parameters", reason="SIGNATURE_MALFORMED")
    values: list[tuple[bytes, ...]] = []
    for field in query.split("&"):
        if name_of(field) == name:
            raw = _encode(field.partition("=")[2])
            values.append(
                (unquote_to_bytes(raw.replace(b"+", b" ")), *([unquote_to_bytes(raw)] if b"+" in raw else []))
            )
    return values


def credentials_of(query: str, names: Collection[str]) -> list[bytes]:
    """Return the decoded values of parameters that may be credentials, only the first few of them.

    Args:
        query: without `?`, percent-encoding preserved.
        names: decoded names, as in `Verifier.credential_query`.
    """
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
    """Return header fields without those that contain one of the credentials."""
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
    """Return a query string without some parameters; the rest of it is unchanged.

    Args:
        query: without `?`, percent-encoding preserved.
        names: decoded names, as in `Verifier.credential_query`. A field is also removed if one of them follows a `;`
            in it: some senders use that as a separator.
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


MAX_JSON_BYTES: Final = 1 * limits.MIB
"""Maximum size of a body, unless a flow allows more: parsed within some 35 ms, whatever its content."""

MAX_VALUES: Final = 300_000
"""Maximum number of values in a larger body: with 16 MiB of strings, counted and parsed within some 200 ms."""


@attrs.define(eq=False, repr=False)
class JsonBody:
    """A body as JSON, parsed on first use; parsed again if it is asked for another body.

    Belongs to one request; not thread-safe.

    Set the limits of `read_json`.
    """

    _max_bytes: int = MAX_JSON_BYTES
    _max_values: int = MAX_VALUES
    _body: bytes | None = attrs.field(init=False, default=None)
    _value: Any = attrs.field(init=False, default=None)

    @classmethod
    def known(cls, body: bytes, value: Any) -> JsonBody:
        """Return an instance for a body that has already been parsed."""
        known = cls()
        known._body, known._value = body, value
        return known

    def of(self, body: bytes) -> Any:
        """Return the value of a body; None if it is not JSON, or exceeds the limits."""
        if self._body is not body:
            self._value = read_json(body, self._max_bytes, self._max_values)
            self._body = body
        return self._value


def read_json(body: bytes, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a body as JSON; None if it is not JSON, or exceeds the limits. Never raises.

    Args:
        body: as received.
        max_bytes: maximum size of the body.
        max_values: maximum number of values in a body that is larger than `MAX_JSON_BYTES`.
    """
    if len(body) > max_bytes:
        return None
    try:
        if len(body) > MAX_JSON_BYTES:
            check_value_count(body, max_values)
        return load_json(body)
    except (InvalidError, orjson.JSONDecodeError):
        return None


def json_of(request: RequestView) -> Any:
    """Return the JSON value of the body of a request, as `read_json` does; parsed once if the request has `json`."""
    return read_json(request.body) if request.json is None else request.json.of(request.body)


MAX_NUMBERED: Final = 16  # numbered headers of one name that are read


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
