"""Multipart bodies, scanned as they come: where each part lies, and what its header says.

Own code, because what counts here is the position of each part in the bytes that are stored: a file of half a gigabyte
is kept once, as it was received, and its parts are slices of it. Libraries hand out copies.

::

    preamble --boundary--> after --CRLF--> headers --empty line--> content --boundary--> after --"--"--> epilogue

Source: RFC 2046, section 5.1; RFC 7578 (multipart/form-data).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from flowhook.errors import InvalidError
from flowhook.limits import MAX_PARTS
from flowhook.payloads.content_type import parameters

MAX_HEADER_BYTES: Final = 16 * 1024
"""Header of one part."""

MAX_HEADERS_BYTES: Final = 1024 * 1024
"""Headers of all parts: to read them is most of the work."""

MAX_PREAMBLE_BYTES: Final = 64 * 1024
MAX_PADDING: Final = 64
"""Spaces after a boundary."""

_MAX_NAME: Final = 255
_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


class PartStarted(NamedTuple):
    """A part begins.

    Attributes:
        offset: of its content in the body.
        type: its Content-Type, or empty.
        field: name in the form, or empty.
        filename: base name of the file, sanitized; None when the part is no file.
    """

    offset: int
    type: str
    field: str
    filename: str | None


class PartData(NamedTuple):
    """Some of a part's content."""

    data: bytes


class PartEnded(NamedTuple):
    """The part that began last ends; `offset` is that after its content."""

    offset: int


PartEvent = PartStarted | PartData | PartEnded


class MultipartScanner:
    """Scans one body, fed in pieces of any size. Holds little more than the largest piece and a part's header."""

    def __init__(self, boundary: str) -> None:
        """Scan for a boundary.

        Raises:
            InvalidError: it is none (`BODY_INVALID`).
        """
        if not _BOUNDARY.fullmatch(boundary):
            raise _invalid("its Content-Type names no boundary")
        self._delimiter = b"\r\n--" + boundary.encode()
        self._buffer = bytearray(b"\r\n")  # as if a line had ended before the body: the first boundary may begin it
        self._offset = -2
        self._parts = 0
        self._header_bytes = 0
        self._events: list[PartEvent] = []
        self._step: Callable[[], bool] = self._preamble

    def feed(self, data: bytes) -> list[PartEvent]:
        """Return what the next bytes of the body show.

        Raises:
            InvalidError: they are not multipart (`BODY_INVALID`).
        """
        self._buffer += data
        while self._step():
            pass
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """Note that the body is complete.

        Raises:
            InvalidError: its last boundary is missing (`BODY_INVALID`).
        """
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
        self._drop(position)  # what ends the boundary's line begins the header, for that may be empty
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
        # a part without content ends where its header does: the empty line is part of the next boundary, too
        self._drop(position + 2)
        self._events.append(_part(header, self._offset + 2))
        self._step = self._first_content
        return True

    def _first_content(self) -> bool:
        """Look for a boundary right at the start, where the line end before it belongs to the header."""
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
        None if filename is None else base_name(filename),
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


def base_name(filename: str) -> str:
    """Return what of a file name is a name: nothing of a path, no control characters, at most 255 characters.

    Source: RFC 7578, section 4.2, on what receivers must not trust.
    """
    name = _CONTROLS.sub("", re.split(r"[/\\]", filename)[-1]).strip()[:_MAX_NAME]
    return "file" if name in ("", ".", "..") else name


def _invalid(what: str) -> InvalidError:
    return InvalidError(f"the body is not multipart: {what}", reason="BODY_INVALID")
