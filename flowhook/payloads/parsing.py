"""Selection of the parser by media type, and parsing of whole bodies.

Compressed bodies are decompressed, text is decoded, forms become objects, files become attachments. A CloudEvent in
binary mode (attributes in header fields, data in the body) becomes the object that structured mode would have sent, so
that flows need not distinguish the modes.

Source: RFC 9110, section 8 (representation data); CloudEvents 1.0, "HTTP Protocol Binding", sections 3.1-3.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from flowhook.errors import InvalidError
from flowhook.json import check_value_count, parse_json
from flowhook.limits import MAX_VALUES
from flowhook.payloads.content_encoding import decompress
from flowhook.payloads.content_type import ContentType, decode_charset, parse_content_type
from flowhook.payloads.forms import nest_fields, parse_properties, parse_urlencoded, percent_decode
from flowhook.payloads.multipart import (
    FORM_DATA,
    NO_FIELD,
    MultipartScanner,
    PartData,
    PartEnded,
    PartStarted,
    attachment_name,
    field_value,
)
from flowhook.payloads.xml import parse_xml

BINARY_MODE: Final = "ce-specversion"  # header field that identifies a CloudEvent in binary mode

_PREFIX: Final = "ce-"
_STRUCTURED: Final = ("application/cloudevents+", "application/cloudevents-batch+")


def to_structured(content_type: str, headers: Sequence[tuple[str, bytes]], data: Any) -> Any:
    """Return a request in binary mode as the object of structured mode; return `data` for any other request.

    `data` is the parsed body; None when nothing of it was parsed. Names of `headers` are in lower case.
    """
    is_binary = any(name == BINARY_MODE for name, _ in headers)
    if not is_binary or parse_content_type(content_type).essence.startswith(_STRUCTURED):
        return data
    event: dict[str, Any] = {
        name.removeprefix(_PREFIX): percent_decode(value).decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(_PREFIX)
    }
    if content_type:
        event["datacontenttype"] = content_type
    if data is not None:
        event["data"] = data
    return event


Selection: TypeAlias = dict[str, Any] | None
"""JSON: `names`, the selected members of an object with a selection for each; `first` and `last`, how many items at the
ends of an array are selected, and `items`, the selection for each of them. All are optional; None selects the whole
value."""


def selection_of(paths: Iterable[Sequence[str | int]]) -> Selection:
    selection: Selection = {}
    for path in paths:
        selection = _with(selection, path)
    return selection


def _with(selection: Selection, path: Sequence[str | int]) -> Selection:
    if selection is None or not path:
        return None
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        names = selection.get("names", {})
        return {**selection, "names": {**names, step: _with(names.get(step, {}), rest)}}
    end, count = ("last", -step) if step < 0 else ("first", step + 1)
    longer = {end: max(count, selection.get(end, 0)), "items": _with(selection.get("items", {}), rest)}
    return {**selection, **longer}


def select(value: Any, selection: Selection) -> Any:
    """Reduce a value to a selection, so that each path of the selection has the same result, or error, as before."""
    if selection is None:
        return value
    if isinstance(value, dict):
        names = selection.get("names", {})
        return {name: select(value[name], inner) for name, inner in names.items() if name in value}
    if isinstance(value, list):
        first, last = selection.get("first", 0), selection.get("last", 0)
        selected = value if len(value) <= first + last else value[:first] + value[len(value) - last :]
        return [select(item, selection.get("items", {})) for item in selected]
    return value if isinstance(value, bool | int | float | None) else ""


def encode_json(value: Any) -> bytes:
    """Encode a value as JSON, whatever its depth of nesting."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # orjson reads 1024 levels of nesting, but writes 254
        return json.dumps(value).encode()


MAX_LINES: Final = 100_000  # lines of one NDJSON body, empty ones included
BODY: Final = "body"  # name of an attachment that is a whole body

_NDJSON: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
_WHOLE_TYPES: Final = frozenset({"application/x-www-form-urlencoded", *_NDJSON})
_UNREADABLE: Final = frozenset({"CHARSET_UNKNOWN", "ENCODING_UNKNOWN"})
"""Reasons to leave a body unparsed instead of rejecting it."""


class Attachment(NamedTuple):
    """Content that was not parsed."""

    name: str  # base name of the file, or `BODY`
    type: str  # media type as sent; empty when there was none
    content: bytes  # the bytes; those of a whole body as received, still compressed if it was
    field: str = ""  # name of the form field, for a part; or empty


class ParsedBody(NamedTuple):
    """Result of parsing: `body` as JSON types, None when nothing was parsed, and the rest as attachments."""

    body: Any
    attachments: tuple[Attachment, ...] = ()


EMPTY: Final = ParsedBody(None)


def parse(
    content_type: str, body: bytes, headers: Sequence[tuple[str, bytes]], *, raw: bool = False, limit: int
) -> ParsedBody:
    """Parse a body; with `raw`, return it unparsed, as one attachment.

    Blocks for as long as it takes to parse `limit` bytes, the maximum size of the decompressed body. Numbers that don't
    fit 64 bits become doubles; of repeated members of a JSON object the last is used. Of `headers`, with names in lower
    case, only `content-encoding` and the attributes of a CloudEvent are used.

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
        plain = body
        if compressed and body:
            codings = ", ".join(value.decode("latin-1") for name, value in headers if name == "content-encoding")
            plain = decompress(body, codings, limit)
        content = _parse(kind, content_type, plain)
    except InvalidError as error:
        if error.reason not in _UNREADABLE:
            raise
        content = _whole(content_type, body)
    if not binary:
        return content
    return content._replace(body=to_structured(content_type, headers, content.body))


IDENTITY: Final = (("specversion",), ("source",), ("id",))  # paths of the members that `event_identity` reads


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
    kind = parse_content_type(content_type)
    whole = kind.is_json or _is_xml(kind.essence) or kind.essence in _WHOLE_TYPES
    return whole or kind.essence.startswith("text/")


def is_opaque(content_type: str) -> bool:
    """Whether a body of this media type becomes one attachment, whatever its content."""
    return not is_parsed_whole(content_type) and not parse_content_type(content_type).essence.startswith("multipart/")


def _parse(kind: ContentType, content_type: str, body: bytes) -> ParsedBody:
    essence = kind.essence
    if kind.is_json:
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


def _is_xml(essence: str) -> bool:
    """Source: RFC 7303, sections 3 and 4.2."""
    return essence in ("application/xml", "text/xml") or essence.endswith("+xml")
