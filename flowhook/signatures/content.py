"""Assembles the signed content of a request in pieces, without copying the body."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from flowhook import limits
from flowhook.providers.scheme import ContentPart
from flowhook.signatures.request_values import json_field, single_header
from flowhook.signatures.types import RequestView, SignatureError

MAX_FIELDS: Final = 1000  # maximum number of fields in a form that is signed by name and value
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


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # whatever the request line held, this does not raise


def _decoded(url: str) -> bytes:
    """Percent-decode a URL, except for its encoded question marks."""
    return b"%3F".join(unquote_to_bytes(part) for part in re.split(rb"%3[Ff]", _encode(url)))


def _form(body: bytes) -> bytes:
    """Return the names and values of a form, sorted by name, repeated ones by value, each pair once."""
    if len(body) > MAX_FORM_BYTES:
        raise SignatureError(f"the form is larger than {MAX_FORM_BYTES} bytes", reason="SIGNATURE_MALFORMED")
    try:  # Latin-1 has a character for each byte; given bytes, `parse_qsl` accepts only ASCII
        text = body.decode("latin-1")
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, encoding="latin-1")
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
