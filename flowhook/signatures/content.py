"""What is signed, piece by piece, from a request. The body is never copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowhook.document.signed_content import ContentPart
from flowhook.signatures.headers import single_header
from flowhook.signatures.types import RequestView, SignatureError

Chunks = Sequence[bytes]
ContentReader = Callable[[RequestView, bytes, bytes], Chunks]
"""From a request, the timestamp and the ID as sent to the signed content in pieces."""


def compile_content(parts: Sequence[ContentPart]) -> ContentReader:
    """Return a function that gathers the signed content.

    The function raises SignatureError (`SIGNATURE_MALFORMED`) when a header that is signed is missing or repeated.
    """
    if [part.source for part in parts] == ["body"]:
        return lambda request, _timestamp, _id: (request.body,)
    readers = [_compile_part(part) for part in parts]
    return lambda request, timestamp, message_id: [read(request, timestamp, message_id) for read in readers]


def _compile_part(part: ContentPart) -> Callable[[RequestView, bytes, bytes], bytes]:
    match part.source:
        case "text":
            text = part.value.encode()
            return lambda _request, _timestamp, _id: text
        case "body":
            return lambda request, _timestamp, _id: request.body
        case "timestamp":
            return lambda _request, timestamp, _id: timestamp
        case "id":
            return lambda _request, _timestamp, message_id: message_id
        case "method":
            return lambda request, _timestamp, _id: _encode(request.method)
        case "url":
            return lambda request, _timestamp, _id: _encode(request.url)
        case "path":
            return lambda request, _timestamp, _id: _encode(request.path)
        case "header":
            name = part.value
            return lambda request, _timestamp, _id: _header(request, name)
    raise AssertionError(part.source)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # whatever the request line held, this does not raise


def _header(request: RequestView, name: str) -> bytes:
    value = single_header(request.headers, name, kind="SIGNATURE")
    if value is None:
        raise SignatureError(f"header {name}, which is signed, is missing", reason="SIGNATURE_MALFORMED")
    return value
