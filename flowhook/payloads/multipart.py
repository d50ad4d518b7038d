"""Multipart bodies: a scanner that reports position and header of each part, and form fields and attachments of it.

Own code, because it must report the position of each part in the stored body: a body of half a gigabyte is stored once,
as it was received, and its parts are slices of it. Libraries return copies.

::

    preamble --boundary--> after --CRLF--> headers --empty line--> content --boundary--> after --"--"--> epilogue

Source: RFC 2046, section 5.1; RFC 7578 (multipart/form-data), sections 4.2 to 4.5.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json import check_value_count
from flowhook.limits import MAX_PARTS
from flowhook.model import Part
from flowhook.payloads.content_type import decode_charset, is_json, parameters, parse_content_type
from flowhook.payloads.forms import nest_fields

MAX_HEADER_BYTES: Final = 16 * 1024  # header of one part
MAX_HEADERS_BYTES: Final = 1024 * 1024  # headers of all parts, whose parsing is most of the work

MAX_PREAMBLE_BYTES: Final = 64 * 1024
MAX_PADDING: Final = 64  # whitespace after a boundary
FORM_DATA: Final = "multipart/form-data"
NO_FIELD: Final = (None, 0)

_PART_BYTES: Final = 96  # size of a part's metadata without its texts
_MAX_NAME: Final = 255
_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


class PartStarted(NamedTuple):
    """A part begins."""

    offset: int  # position of its content in the body, in bytes
    type: str  # its Content-Type, or empty
    field: str  # name in the form, or empty
    filename: str | None  # base name of the file, sanitized; None when the part is not a file


class PartData(NamedTuple):
    """A chunk of a part's content."""

    data: bytes


class PartEnded(NamedTuple):
    """The current part ends; `offset` is the position after its content."""

    offset: int


PartEvent = PartStarted | PartData | PartEnded


class MultipartScanner:
    """Scans one body in chunks of any size. Holds little more than the largest chunk and the header of a part.

    Methods, and the constructor for a boundary that is not valid, raise `InvalidError` (`BODY_INVALID`).
    """

    def __init__(self, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise _invalid("its Content-Type names no boundary")
        self._delimiter = b"\r\n--" + boundary.encode()
        self._buffer = bytearray(b"\r\n")  # the body may begin with a boundary, without a line end before it
        self._offset = -2
        self._parts = 0
        self._header_bytes = 0
        self._events: list[PartEvent] = []
        self._step: Callable[[], bool] = self._preamble

    def feed(self, data: bytes) -> list[PartEvent]:
        self._buffer += data
        while self._step():
            pass
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """Finish the body, whose last boundary must not be missing."""
        if self._step != self._epilogue:
            raise _invalid("it has no end")

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count

    def _preamble(self) -> bool:
        position = self._buffer.find(self._delimiter)
        if position < 0:
            if self._offset + len(self._buffer) > MAX_PREAMBLE_BYTES:
                raise _invalid("its first boundary is missing")
            return False
        self._drop(position + len(self._delimiter))
        self._step = self._after
        return True

    def _after(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._step = self._epilogue
            return True
        position = self._buffer.find(b"\r\n")
        if position < 0 and len(self._buffer) <= MAX_PADDING:
            return False
        if not 0 <= position <= MAX_PADDING or self._buffer[:position].strip(b" \t"):
            raise _invalid("a boundary is followed by something else")
        self._drop(position)  # keep the line end: if the header is empty, it is part of the empty line after it
        self._step = self._headers
        return True

    def _headers(self) -> bool:
        position = self._buffer.find(b"\r\n\r\n")
        if position > MAX_HEADER_BYTES or (position < 0 and len(self._buffer) > MAX_HEADER_BYTES):
            raise _invalid(f"the header of a part has more than {MAX_HEADER_BYTES} bytes")
        if position < 0:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _invalid(f"it has more than {MAX_PARTS} parts")
        self._header_bytes += position
        if self._header_bytes > MAX_HEADERS_BYTES:
            raise _invalid(f"the headers of its parts have more than {MAX_HEADERS_BYTES} bytes")
        header = bytes(self._buffer[:position])
        # a part without content ends with its header: the empty line is also the line end of the next boundary
        self._drop(position + 2)
        self._events.append(_part(header, self._offset + 2))
        self._step = self._first_content
        return True

    def _first_content(self) -> bool:
        """Check for a boundary directly after the header, whose empty line is then part of the boundary."""
        if len(self._buffer) < len(self._delimiter) and self._delimiter.startswith(self._buffer):
            return False
        if self._buffer.startswith(self._delimiter):
            self._events.append(PartEnded(self._offset + 2))
            self._drop(len(self._delimiter))
            self._step = self._after
        else:
            self._drop(2)
            self._step = self._content
        return True

    def _content(self) -> bool:
        position = self._buffer.find(self._delimiter)
        size = max(0, len(self._buffer) - len(self._delimiter) + 1) if position < 0 else position
        if size:
            self._events.append(PartData(bytes(self._buffer[:size])))
            self._drop(size)
        if position < 0:
            return False
        self._events.append(PartEnded(self._offset))
        self._drop(len(self._delimiter))
        self._step = self._after
        return True

    def _epilogue(self) -> bool:
        self._drop(len(self._buffer))
        return False


def _part(header: bytes, offset: int) -> PartStarted:
    fields = dict(_fields(header))
    disposition = parameters(fields.get("content-disposition", ""))
    filename = disposition.get("filename")
    return PartStarted(
        offset,
        fields.get("content-type", ""),
        disposition.get("name", ""),
        None if filename is None else sanitize_file_name(filename),
    )


def _fields(header: bytes) -> Iterator[tuple[str, str]]:
    try:
        text = header.decode()
    except UnicodeDecodeError:
        text = header.decode("latin-1")
    for line in re.sub(r"\r\n[ \t]+", " ", text).split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip().lower(), value.strip()
        elif line:
            raise _invalid("a line in the header of a part has no colon")


def sanitize_file_name(filename: str) -> str:
    """Sanitize a file name: without path and control characters, at most 255 characters.

    Source: RFC 7578, section 4.2, on file names that receivers must not trust.
    """
    name = _CONTROLS.sub("", re.split(r"[/\\]", filename)[-1]).strip()[:_MAX_NAME]
    return "file" if name in ("", ".", "..") else name


def _invalid(what: str) -> InvalidError:
    return InvalidError(f"the body is not multipart: {what}", reason="BODY_INVALID")


def may_be_field(part: PartStarted) -> bool:
    """Whether a part of a form is a field, provided that its content is valid for its media type."""
    if part.filename is not None or not part.field:
        return False
    essence = parse_content_type(part.type).essence
    return not essence or essence.startswith("text/") or is_json(part.type)


def field_value(part: PartStarted, content: bytes, most: int = limits.MAX_VALUES) -> tuple[tuple[Any] | None, int]:
    """Return the value of a field, and an upper bound on the number of JSON values in it.

    `NO_FIELD` if the part is a file, is not valid for its media type, or has more than `most` values.
    """
    if not may_be_field(part):
        return NO_FIELD
    try:
        if is_json(part.type):
            values = check_value_count(content, most)
            return (orjson.loads(content),), values
        return (decode_charset(content, parse_content_type(part.type).charset),), 1
    except (InvalidError, orjson.JSONDecodeError):
        return NO_FIELD


def attachment_name(part: PartStarted) -> str:
    return part.filename or part.field or "part"


class MultipartSplitter:
    """Incremental splitter of a multipart body. Holds little more than one chunk of it, and the fields.

    Fields beyond `limits.MAX_FORM_BYTES` become attachments. Methods, and the constructor for a media type without a
    valid boundary, raise `InvalidError` (`BODY_INVALID`).
    """

    def __init__(self, content_type: str) -> None:
        kind = parse_content_type(content_type)
        self._scanner = MultipartScanner(kind.parameters.get("boundary", ""))
        self._is_form = kind.essence == FORM_DATA
        self._fields: list[tuple[str, Any]] = []
        self._form_left = limits.MAX_FORM_BYTES
        self._parts: list[Part] = []
        self._parts_left = limits.MAX_PARTS_BYTES
        self._part = PartStarted(0, "", "", None)
        self._hash = hashlib.sha256()
        self._held: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Process the next bytes of the body; the metadata of its parts may have `limits.MAX_PARTS_BYTES`."""
        for event in self._scanner.feed(data):
            match event:
                case PartStarted():
                    self._begin(event)
                case PartData(data=content):
                    self._hash.update(content)
                    if self._held is not None:
                        self._held += content
                        if len(self._held) > self._form_left:
                            self._held = None
                case PartEnded(offset=end):
                    self._end(end)

    def end(self) -> tuple[bytes, tuple[Part, ...]]:
        """Finish the body; return its fields as a JSON object (empty if it is not a form), and its attachments."""
        self._scanner.end()
        return orjson.dumps(nest_fields(self._fields)) if self._is_form else b"", tuple(self._parts)

    def _begin(self, part: PartStarted) -> None:
        self._part = part
        self._hash = hashlib.sha256()
        self._held = bytearray() if self._is_form and may_be_field(part) else None

    def _end(self, offset: int) -> None:
        part = self._part
        value, _ = NO_FIELD if self._held is None else field_value(part, bytes(self._held))
        size = None if value is None else _json_size(part.field, value[0])
        if value is not None and size is not None and size <= self._form_left:
            self._form_left -= size
            self._fields.append((part.field, value[0]))
            return
        name = attachment_name(part)
        self._parts_left -= _PART_BYTES + sum(len(text.encode()) for text in (part.type, name, part.field))
        if self._parts_left < 0:
            raise InvalidError("the body is not multipart: its parts' headers are too long", reason="BODY_INVALID")
        self._parts.append(Part(part.offset, offset - part.offset, part.type, name, part.field, self._hash.digest()))


def _json_size(field: str, value: Any) -> int | None:
    """Return an upper bound on the size of a field in the JSON object; None: it is nested too deeply to be encoded."""
    try:
        return len(orjson.dumps(nest_fields([(field, value)]))) + len('"[]":[],')
    except orjson.JSONEncodeError:
        return None
