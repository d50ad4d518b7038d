"""Selection of the parser by media type, and parsing of whole bodies.

Compressed bodies are decompressed, text is decoded, forms become objects, files become attachments. A CloudEvent in
binary mode becomes the object that structured mode would have sent, so that flows need not distinguish the modes.

Source: RFC 9110, section 8 (representation data); CloudEvents 1.0, "HTTP Protocol Binding", sections 3.1-3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from flowhook.errors import InvalidError
from flowhook.json.bounded import check_value_count, parse_json
from flowhook.limits import MAX_VALUES
from flowhook.payloads.cloud_event import BINARY_MODE, to_structured
from flowhook.payloads.content_encoding import decompress
from flowhook.payloads.content_type import ContentType, decode_charset, parse_content_type
from flowhook.payloads.form_data import FORM_DATA, NO_FIELD, attachment_name, field_value
from flowhook.payloads.forms import nest_fields, parse_urlencoded
from flowhook.payloads.multipart import MultipartScanner, PartData, PartEnded, PartStarted
from flowhook.payloads.properties import parse_properties
from flowhook.payloads.xml import parse_xml

MAX_LINES: Final = 100_000
"""Lines of one NDJSON body, empty ones included."""

BODY: Final = "body"
"""Name of an attachment that is a whole body."""

_NDJSON: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_UNREADABLE: Final = frozenset({"CHARSET_UNKNOWN", "ENCODING_UNKNOWN"})
"""Reasons to leave a body unparsed instead of rejecting it."""


class Attachment(NamedTuple):
    """Content that was not parsed.

    Attributes:
        name: base name of the file, or `BODY`.
        type: media type as sent; empty when there was none.
        content: the bytes; those of a whole body as received, still compressed if it was.
        field: name of the form field, for a part; or empty.
    """

    name: str
    type: str
    content: bytes
    field: str = ""


class ParsedBody(NamedTuple):
    """Result of parsing: `body` as JSON types, None when nothing was parsed, and the rest as attachments."""

    body: Any
    attachments: tuple[Attachment, ...] = ()


EMPTY: Final = ParsedBody(None)


def parse(
    content_type: str, body: bytes, headers: Sequence[tuple[str, bytes]], *, raw: bool = False, limit: int
) -> ParsedBody:
    """Parse a body.

    Blocks for as long as it takes to parse `limit` bytes. Numbers that don't fit 64 bits become doubles; of repeated
    members of a JSON object the last is used.

    Args:
        content_type: media type of the body, as sent.
        body: body as received.
        headers: header fields of the request, lower-case names; only `content-encoding` and the attributes of a
            CloudEvent are used.
        raw: return the body unparsed, as one attachment.
        limit: maximum size of the decompressed body, in bytes.

    Raises:
        InvalidError: the body is not valid for its media type or coding (`BODY_INVALID`), or is too large when
            decompressed (`BODY_TOO_LARGE`).
    """
    if raw:
        return _whole(content_type, body)
    kind = parse_content_type(content_type)
    compressed = binary = False
    for name, _ in headers:  # a single loop, since this is a hot path
        if name == "content-encoding":
            compressed = True
        elif name == BINARY_MODE:
            binary = True
    try:
        plain = _decompressed(body, headers, limit) if compressed and body else body
        content = _parse(kind, content_type, plain)
    except InvalidError as error:
        if error.reason not in _UNREADABLE:
            raise
        content = _whole(content_type, body)
    if not binary:
        return content
    return content._replace(body=to_structured(content_type, headers, content.body))


IDENTITY: Final = (("specversion",), ("source",), ("id",))
"""Paths of the members that `event_identity` reads."""


def event_identity(body: Any) -> str | None:
    """Return the identity of a CloudEvent, its source and ID; None if the body is not a CloudEvent.

    Source: CloudEvents 1.0, "id": `source` + `id` is unique for each distinct event.
    """
    if not isinstance(body, dict) or "specversion" not in body:
        return None
    source, name = body.get("source"), body.get("id")
    return f"{source}\n{name}" if isinstance(source, str) and isinstance(name, str) and name else None


def is_parsed_whole(content_type: str) -> bool:
    """Whether a body of this media type is parsed as a whole; others, including multipart, may be streamed."""
    essence = parse_content_type(content_type).essence
    return _is_json(essence) or _is_xml(essence) or essence in _WHOLE_TYPES or essence.startswith("text/")


def is_opaque(content_type: str) -> bool:
    """Whether a body of this media type becomes one attachment, whatever its content."""
    return not is_parsed_whole(content_type) and not parse_content_type(content_type).essence.startswith("multipart/")


def _decompressed(body: bytes, headers: Sequence[tuple[str, bytes]], limit: int) -> bytes:
    codings = ", ".join(value.decode("latin-1") for name, value in headers if name == "content-encoding")
    return decompress(body, codings, limit) if codings else body


def _parse(kind: ContentType, content_type: str, body: bytes) -> ParsedBody:
    essence = kind.essence
    if _is_json(essence):
        return ParsedBody(parse_json(body))
    if not body:
        return EMPTY
    if essence == "application/x-www-form-urlencoded":
        return ParsedBody(parse_urlencoded(body, kind.charset))
    if _is_xml(essence):
        return ParsedBody(parse_xml(body, kind.charset))
    if essence.startswith("multipart/"):
        return _multipart(kind, body)
    if essence in _NDJSON:
        return ParsedBody(_lines(body))
    if essence == "text/x-java-properties":
        return ParsedBody(parse_properties(decode_charset(body, kind.charset)))
    if essence.startswith("text/"):
        return ParsedBody(decode_charset(body, kind.charset))
    return _whole(content_type, body)


def _whole(content_type: str, body: bytes) -> ParsedBody:
    return ParsedBody(None, (Attachment(BODY, content_type, body),)) if body else EMPTY


def _lines(body: bytes) -> list[Any]:
    if body.count(b"\n") > MAX_LINES:
        raise InvalidError(f"NDJSON has at most {MAX_LINES} lines", reason="BODY_INVALID")
    check_value_count(body)
    try:
        return [orjson.loads(line) for line in body.split(b"\n") if line and not line.isspace()]
    except orjson.JSONDecodeError:
        raise InvalidError("the body is not JSON", reason="BODY_INVALID") from None


def _multipart(kind: ContentType, body: bytes) -> ParsedBody:
    """Return the fields of a form as an object, and every other part as an attachment."""
    scanner = MultipartScanner(kind.parameters.get("boundary", ""))
    fields: list[tuple[str, Any]] = []
    attachments: list[Attachment] = []
    values_left = MAX_VALUES
    part = PartStarted(0, "", "", None)
    for event in scanner.feed(body):
        match event:
            case PartStarted():
                part = event
            case PartEnded(offset=end):
                content = body[part.offset : end]
                value, values = field_value(part, content, values_left) if kind.essence == FORM_DATA else NO_FIELD
                values_left -= values
                if value is None:
                    attachments.append(Attachment(attachment_name(part), part.type, content, part.field))
                else:
                    fields.append((part.field, value[0]))
            case PartData():
                pass
    scanner.end()
    return ParsedBody(nest_fields(fields) if kind.essence == FORM_DATA else None, tuple(attachments))


def _is_json(essence: str) -> bool:
    """Source: RFC 8259, section 11; RFC 6839, section 3.1."""
    return essence == "application/json" or essence.endswith("+json")


def _is_xml(essence: str) -> bool:
    """Source: RFC 7303, sections 3 and 4.2."""
    return essence in ("application/xml", "text/xml") or essence.endswith("+xml")


_WHOLE_TYPES: Final = frozenset({"application/x-www-form-urlencoded", *_NDJSON})
