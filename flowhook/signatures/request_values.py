"""Reads values of requests (headers, parameters of query strings, fields of JSON bodies), and assembles what is signed.

That is in pieces, without copying the body.

Parameters of query strings, and headers that repeat them, are found whatever the percent-encoding. Source:
https://url.spec.whatwg.org/#application/x-www-form-urlencoded, which is how senders and flows read them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from flowhook import limits
from flowhook.providers.scheme import ContentPart, FieldLocation
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
    return text.encode("utf-8", "surrogatepass")  # whatever the request line held, this does not raise


MAX_NUMBERED: Final = 16  # numbered headers of one name that are read


def extract_values(request: RequestView, location: FieldLocation, *, kind: str = "SIGNATURE") -> list[bytes]:
    """Return the values at a location; at most one, except in numbered headers and for `+` in the query string.

    The location is any but a `pair`, with names of headers in lower case. The body is only read for a `field`.
    SignatureError: there are several where only one is allowed (`SIGNATURE_MALFORMED`, where `kind` is the first word).
    """
    if location.kind == "header":
        value = single_header(request.headers, location.name, kind=kind)
        return [] if value is None else [value]
    if location.kind == "numbered":
        found = (single_header(request.headers, name, kind=kind) for name in header_names(location))
        return [value for value in found if value is not None]
    if location.kind == "query":
        values = parameter_values(request.query, location.name)
        if len(values) > 1:
            raise SignatureError(f"{describe(location)} occurs {len(values)} times", reason=f"{kind}_MALFORMED")
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


def header_names(location: FieldLocation) -> list[str]:
    if location.kind == "numbered":
        return [f"{location.name}{number}" for number in range(1, MAX_NUMBERED + 1)]
    return [location.name] if location.kind == "header" else []


def describe(location: FieldLocation) -> str:
    """Return a description of a location for operators."""
    words = {"header": "header", "numbered": "header", "query": "query parameter", "field": "field"}
    return f"{words.get(location.kind, 'value')} {location.name}{'1' if location.kind == 'numbered' else ''}"


MAX_FORM_FIELDS: Final = 1000  # maximum number of fields in a form that is signed by name and value
# Maximum size of such a form: it is parsed, within some 30 ms, before its sender is authenticated.
MAX_FORM_BYTES: Final = 256 * limits.KIB

Chunks = Sequence[bytes]
ContentReader = Callable[[RequestView, bytes, bytes], Chunks]
"""Returns the signed content in pieces, for a request and its timestamp and ID as sent."""

PieceReader = Callable[[RequestView, bytes, bytes], bytes]
"""Returns one piece of the signed content, for the same arguments."""


def compile_content(parts: Sequence[ContentPart]) -> ContentReader:
    """Return a function that assembles the signed content; it raises `SIGNATURE_MALFORMED` for a missing header."""
    if [part.source for part in parts] == ["body"]:
        return lambda request, _timestamp, _id: (request.body,)
    readers = [_compile_part(part) for part in parts]
    return lambda request, timestamp, message_id: [read(request, timestamp, message_id) for read in readers]


def split_around_body(parts: Sequence[ContentPart]) -> tuple[ContentReader, ContentReader] | None:
    """Return functions that assemble the signed content before and after the body, for a streamed body.

    None if the body can't be streamed, because it is signed more than once, or otherwise than by its bytes. If it is
    not signed at all, all content is in the first part.
    """
    locations = [index for index, part in enumerate(parts) if part.is_of_body]
    if not locations:
        return compile_content(parts), compile_content(())
    index = locations[0]
    if len(locations) > 1 or parts[index].source != "body":
        return None
    return compile_content(parts[:index]), compile_content(parts[index + 1 :])


def _compile_part(part: ContentPart) -> PieceReader:
    name = part.value
    match part.source:
        case "text":
            text = name.encode()
            return lambda _request, _timestamp, _id: text
        case "header":
            return lambda request, _timestamp, _id: _header(request, name)
        case "field":
            return lambda request, _timestamp, _id: json_field(request, name) or b""
    return _READERS[part.source]


def _decoded(url: str) -> bytes:
    """Percent-decode a URL, except for its encoded question marks."""
    return b"%3F".join(unquote_to_bytes(part) for part in re.split(rb"%3[Ff]", _encode(url)))


def _form(body: bytes) -> bytes:
    """Return the names and values of a form, sorted by name, repeated ones by value, each pair once."""
    if len(body) > MAX_FORM_BYTES:
        raise SignatureError(f"the form is larger than {MAX_FORM_BYTES} bytes", reason="SIGNATURE_MALFORMED")
    try:  # Latin-1 has a character for each byte; given bytes, `parse_qsl` accepts only ASCII
        text = body.decode("latin-1")
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, encoding="latin-1")
    except ValueError:
        raise SignatureError("the body is not a form, or has too many fields", reason="SIGNATURE_MALFORMED") from None
    return "".join(name + value for name, value in sorted(set(fields))).encode("latin-1")


def _header(request: RequestView, name: str) -> bytes:
    value = single_header(request.headers, name, kind="SIGNATURE")
    if value is None:
        raise SignatureError(f"the signed header {name} is missing", reason="SIGNATURE_MALFORMED")
    return value


_READERS: Final[Mapping[str, PieceReader]] = {
    "body": lambda request, _timestamp, _id: request.body,
    "body_crc32": lambda request, _timestamp, _id: str(zlib.crc32(request.body)).encode(),
    "decoded_url": lambda request, _timestamp, _id: _decoded(request.url),
    "form": lambda request, _timestamp, _id: _form(request.body),
    "id": lambda _request, _timestamp, message_id: message_id,
    "method": lambda request, _timestamp, _id: _encode(request.method),
    "path": lambda request, _timestamp, _id: _encode(request.path),
    "timestamp": lambda _request, timestamp, _id: timestamp,
    "url": lambda request, _timestamp, _id: _encode(request.url),
}
