"""A sans-I/O parser of HTTP/1.1 requests: bytes in, values out.

Strict on purpose, because a proxy in front of the edge may interpret a lenient message differently (request smuggling):
bare LF, folded lines, spaces before the colon, and every ambiguous framing are refused.

`tornado.http1connection` is not used: it stores fields in a dict, which loses their order; it responds to malformed and
too large requests itself, before the edge could give a reason; and it costs 37 µs more per request
(docs/performance.md).

Source: RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

MAX_FIELDS: Final = 256
"""Header fields of one request."""

MAX_NAME_BYTES: Final = 256
"""Bytes of the name of one header field."""

MAX_HOST_BYTES: Final = 300
"""Bytes of host and port; a DNS name has at most 253 characters (RFC 1035, section 2.3.4)."""

MAX_CHUNK_LINE_BYTES: Final = 256
"""Bytes of the line with the size and the extensions of one chunk."""

MAX_TRAILER_BYTES: Final = 8192
"""Bytes of the trailer section of a chunked body, which is read and dropped."""

MAX_CONNECTION_OPTIONS: Final = 32
"""Maximum number of commas in Connection."""

MAX_EXCESS_BYTES: Final = 16 * 1024
"""Framing of a chunked body beyond its allowance of `CHUNK_FRAMING_BYTES` per chunk, plus twice the chunk's content."""

CHUNK_FRAMING_BYTES: Final = 16
"""Framing allowed for a chunk of any size: to stream a byte at a time is legitimate, long extensions are not."""

LINES_AT_ONCE: Final = 128
"""Lines of a chunked body that are parsed in one turn of the loop: some 100 µs, the cost of a small request."""

_TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# Possessive quantifiers: no input can make these patterns backtrack.
_REQUEST_LINE: Final = re.compile(rb"(" + _TCHAR + rb"++) ([\x21-\x7e\x80-\xff]++) HTTP/([0-9])\.([0-9])\r\n")
_FIELD_LINES: Final = re.compile(rb"(?:%b{1,%d}+:[\t\x20-\x7e\x80-\xff]*+\r\n)*+" % (_TCHAR, MAX_NAME_BYTES))
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?#]++)(.*)", re.DOTALL)
_HOST: Final = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%%\[\]:]{0,%d}+" % MAX_HOST_BYTES)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?")
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*+")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_TRAILER_LINE: Final = re.compile(_TCHAR + rb"++:[\t\x20-\x7e\x80-\xff]*+")


_SPECIAL: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "traceparent",
        "transfer-encoding",
    }
)


class MalformedRequestError(Exception):
    """The input is not an acceptable request; nothing after it on the connection can be trusted.

    Attributes:
        status: status of the response: 400, 417, 431, 501 or 505.
        reason: stable cause in UPPER_SNAKE_CASE.
        detail: description for the log.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class Head:
    """Request line and header fields.

    Attributes:
        method: as sent; methods are case-sensitive.
        path: up to `?`, percent-encoding retained, never empty.
        query: after `?`, percent-encoding retained.
        target: path and query as sent, with the `?` of an empty query.
        headers: pairs in wire order; lower-case name, value without surrounding whitespace.
        host: value of Host, or the authority of an absolute target; empty in HTTP/1.0 without one.
        content_type: value of Content-Type, or empty.
        length: declared length of the body in bytes; 0 without a body, -1 for a chunked one.
        keep_alive: whether the sender wants the connection to persist.
        http10: whether it is an HTTP/1.0 request.
        expects_continue: whether the sender waits for `100 Continue` before it sends the body.
        compressed: whether there is a Content-Encoding.
        traceparent: value of the W3C header, or empty.
        size: size of the whole head in bytes.
    """

    __slots__ = (
        "compressed",
        "content_type",
        "expects_continue",
        "headers",
        "host",
        "http10",
        "keep_alive",
        "length",
        "method",
        "path",
        "query",
        "size",
        "target",
        "traceparent",
    )

    def __init__(self, method: str, target: str, *, http10: bool) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.http10 = http10
        self.keep_alive = not http10
        self.headers: list[tuple[str, bytes]] = []
        self.host = ""
        self.content_type = ""
        self.traceparent = ""
        self.size = 0
        self.length = 0
        self.expects_continue = False
        self.compressed = False


def skip_empty_lines(data: bytes) -> bytes:
    """Return `data` without the empty lines before a request, which a server ignores (RFC 9112, section 2.2).

    Raises:
        MalformedRequestError: a line ends with CR or LF alone.
    """
    rest = data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr] # also matches the empty string
    if rest.startswith((b"\r", b"\n")) and rest != b"\r":
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "an empty line ends with CR or LF alone")
    return rest


def check_partial_head(data: bytes, start: int) -> None:
    """Check an incomplete head, so that the server does not wait for one that can never be complete.

    Args:
        data: the bytes received so far.
        start: offset up to which they were checked before.

    Raises:
        MalformedRequestError: a line ends with LF alone.
    """
    if _BARE_LF.search(data, start):
        raise MalformedRequestError(400, "HEADER_MALFORMED", "a line ends with LF alone")


def parse_head(data: bytes) -> Head:
    """Parse a request's head: from its first byte up to and including the CRLF of its last line.

    Raises:
        MalformedRequestError: it is not an acceptable request.
    """
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "no HTTP request line")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise MalformedRequestError(505, "HTTP_VERSION_UNSUPPORTED", "not HTTP/1")
    start = line.end()
    if data.count(b"\r\n", start) > MAX_FIELDS:  # checked before any field is parsed
        raise MalformedRequestError(431, "HEADER_TOO_LARGE", "too many header fields")
    if _FIELD_LINES.fullmatch(data, start) is None:
        raise MalformedRequestError(400, "HEADER_MALFORMED", "a header line is malformed")

    authority: bytes | None = None
    if not target.startswith(b"/"):
        authority, target = _split_target(target)
    try:
        head = Head(method.decode("ascii"), target.decode(), http10=minor == b"0")
    except UnicodeDecodeError:
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "the target is neither ASCII nor UTF-8") from None

    special: dict[str, list[bytes]] = {}
    head.size = len(data)
    headers = head.headers
    for field in data[start:-2].split(b"\r\n") if len(data) > start else ():
        raw_name, _, value = field.partition(b":")
        name = _lower_name(raw_name)
        value = value.strip(b" \t")
        headers.append((name, value))
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
    _interpret(head, special)
    if authority is not None:
        head.host = _checked_host(authority)
    return head


def _interpret(head: Head, fields: Mapping[str, Sequence[bytes]]) -> None:
    """Set the attributes of a head that depend on fields: framing, persistence, host and type."""
    hosts = fields.get("host", ())
    if len(hosts) > 1 or not (hosts or head.http10):
        raise MalformedRequestError(400, "HOST_INVALID", "not exactly one Host")
    if hosts:
        head.host = _checked_host(hosts[0])
    if "content-type" in fields:
        types = fields["content-type"]
        if len(types) > 1:  # a proxy may have used the other one (RFC 9110, section 8.3)
            raise MalformedRequestError(400, "CONTENT_TYPE_INVALID", "more than one Content-Type")
        head.content_type = types[0].decode("latin-1")
    if "traceparent" in fields:
        head.traceparent = fields["traceparent"][0].decode("latin-1")
    if "connection" in fields:
        options = _options(b",".join(fields["connection"]))
        head.keep_alive = "close" not in options and ("keep-alive" in options or not head.http10)
    if "expect" in fields:
        if [value.lower() for value in fields["expect"]] != [b"100-continue"]:
            raise MalformedRequestError(417, "EXPECTATION_UNKNOWN", "an Expect other than 100-continue")
        head.expects_continue = not head.http10
    head.compressed = "content-encoding" in fields
    head.length = _body_length(fields.get("content-length", ()), fields.get("transfer-encoding", ()), head)


def _body_length(lengths: Sequence[bytes], codings: Sequence[bytes], head: Head) -> int:
    """Return the length of the body, -1 for a chunked one (RFC 9112, section 6.3)."""
    if codings:
        if lengths or head.http10 or len(codings) > 1:
            raise MalformedRequestError(400, "FRAMING_INVALID", "Transfer-Encoding is ambiguous here")
        if codings[0].lower() != b"chunked":
            raise MalformedRequestError(501, "TRANSFER_CODING_UNKNOWN", "a transfer coding other than chunked")
        return -1
    if not lengths:
        return 0
    if len(set(lengths)) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise MalformedRequestError(400, "FRAMING_INVALID", "Content-Length is not one number")
    return int(lengths[0])


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return authority and path-with-query of a target that does not start with a slash (RFC 9112, section 3.2)."""
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        if target == b"*":
            return b"", target
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "the target is no path")
    authority, rest = absolute.groups()
    return authority, rest if rest.startswith(b"/") else b"/" + rest


@lru_cache(4096)
def _lower_name(name: bytes) -> str:
    return name.decode("ascii").lower()


@lru_cache(1024)
def _checked_host(value: bytes) -> str:
    if _HOST.fullmatch(value) is None:
        raise MalformedRequestError(400, "HOST_INVALID", "Host is malformed")
    return value.decode("ascii")


def _options(value: bytes) -> frozenset[str]:
    if value.count(b",") > MAX_CONNECTION_OPTIONS:
        raise MalformedRequestError(431, "HEADER_TOO_LARGE", "too many connection options")
    return frozenset(token.strip().lower() for token in value.decode("latin-1").split(",") if token.strip())


class ChunkedBody:
    """Incremental decoder of a chunked body. Feed it input until `done`; extensions and trailers are dropped.

    Attributes:
        content: bytes of the body received so far.
        done: whether the body is complete; `rest` then holds the input that followed it.
        more: whether buffered input is not parsed yet: call `feed` without data after a turn of the loop.
    """

    __slots__ = ("_buffer", "_excess", "_pending", "_trailer", "content", "done", "more", "rest")

    def __init__(self) -> None:
        self.content = bytearray()
        self.done = False
        self.more = False
        self.rest = b""
        self._buffer = b""
        self._pending = 0  # bytes missing from the current chunk, its CRLF included
        self._trailer = -1  # bytes of the trailer section so far; -1 before the last chunk
        self._excess = 0  # bytes of framing in excess of the allowance of the chunks so far

    def feed(self, data: bytes = b"") -> None:
        """Add input, and parse up to `LINES_AT_ONCE` of its lines.

        Raises:
            MalformedRequestError: this is no chunked body, or consists almost entirely of framing.
        """
        data = self._buffer + data if self._buffer else data
        position = 0
        self.more = False
        for _ in range(LINES_AT_ONCE):
            if self._pending:
                position = self._take_content(data, position)
                if self._pending:
                    break
            end = data.find(b"\r\n", position, position + MAX_CHUNK_LINE_BYTES + MAX_TRAILER_BYTES)
            if end < 0:
                self._check_partial_line(len(data) - position)
                break
            self._take_line(data[position:end])
            position = end + 2
            if self.done:
                break
        else:
            self.more = position < len(data)
        self._buffer = data[position:]
        if self.done:
            self.rest, self._buffer = self._buffer, b""

    def _take_content(self, data: bytes, position: int) -> int:
        """Consume the available part of the current chunk and of its CRLF; return the offset of its end."""
        content = self._pending - 2
        if content > 0:
            piece = data[position : position + content]
            self.content += piece
            self._pending -= len(piece)
            if len(piece) < content:
                return position + len(piece)
            position += content
        ending = data[position : position + 2]
        if ending == b"\r\n":
            self._pending = 0
            return position + 2
        if not b"\r\n".startswith(ending):
            raise MalformedRequestError(400, "FRAMING_INVALID", "a chunk does not end where it should")
        return position

    def _take_line(self, line: bytes) -> None:
        """Consume a line without its CRLF: a chunk's size, or a line of the trailer section."""
        if self._trailer >= 0:
            self._trailer += len(line) + 2
            self._check_partial_line(0)
            if not line:
                self.done = True
            elif _TRAILER_LINE.fullmatch(line) is None:
                raise MalformedRequestError(400, "FRAMING_INVALID", "a trailer line is malformed")
            return
        self._check_partial_line(len(line))
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise MalformedRequestError(400, "FRAMING_INVALID", "a chunk's size is malformed")
        length = int(size[1], 16)
        # 4 bytes for two CRLFs: that of the line, and that of the content
        self._excess = max(0, self._excess + len(line) + 4 - CHUNK_FRAMING_BYTES - 2 * length)
        if self._excess > MAX_EXCESS_BYTES:
            raise MalformedRequestError(400, "FRAMING_INVALID", "next to nothing but chunk extensions")
        if length:
            self._pending = length + 2
        else:
            self._trailer = 0

    def _check_partial_line(self, length: int) -> None:
        if self._trailer < 0 and length > MAX_CHUNK_LINE_BYTES:
            raise MalformedRequestError(400, "FRAMING_INVALID", "a chunk's size line is too long")
        if self._trailer >= 0 and self._trailer + length > MAX_TRAILER_BYTES:
            raise MalformedRequestError(431, "HEADER_TOO_LARGE", "the trailer section is too long")
