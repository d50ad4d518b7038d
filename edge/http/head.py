"""Heads of HTTP/1.1 requests: parsed by llhttp, checked by stricter rules, and refused with a reason.

Strict on purpose, because a proxy in front of the edge may interpret a lenient message differently (request smuggling):
bare LF, folded lines, spaces before the colon, and every ambiguous framing are refused. llhttp refuses most of that by
itself, as long as none of its leniencies is switched on. This module adds what it accepts: repeated spaces in the
request line, codings before `chunked`, repeated or malformed `Host`, targets that are no URL of this server.

No I/O: bytes in, values out.

Source: RFC 9110 (semantics), RFC 9112 (HTTP/1.1); https://github.com/nodejs/llhttp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import attrs
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine

from flowhook import limits

MAX_FIELDS: Final = 256  # header fields of one request
MAX_NAME_BYTES: Final = 256  # bytes of the name of one header field
MAX_HOST_BYTES: Final = 300  # bytes of host and port; a DNS name has at most 253 characters (RFC 1035, section 2.3.4)
MAX_CONNECTION_OPTIONS: Final = 32  # maximum number of commas in Connection

# Possessive quantifiers: no input can make these patterns backtrack.
_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) ([\x21-\x7e\x80-\xff]++) HTTP/([0-9])\.([0-9])\r\n"
)
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?#]++)(.*)", re.DOTALL)
_HOST: Final = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%%\[\]:]{0,%d}+" % MAX_HOST_BYTES)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*+")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_STAND_IN: Final = b"GET / HTTP/1.1\r\n"

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
    """The input is not an acceptable request; nothing after it on the connection can be trusted."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # of the response: 400, 417, 431, 501 or 505
        self.reason = reason  # stable, in UPPER_SNAKE_CASE
        self.detail = detail  # for the log


@attrs.define(eq=False, repr=False)
class Head:
    """Request line and header fields."""

    method: str  # as sent; methods are case-sensitive
    target: str  # path and query as sent, with the `?` of an empty query
    path: str  # up to `?`, percent-encoding retained, never empty
    query: str  # after `?`, percent-encoding retained
    http10: bool
    keep_alive: bool  # whether the sender wants the connection to persist
    headers: list[tuple[str, bytes]]  # in wire order; lower-case name, value without surrounding whitespace
    size: int  # of the whole head in bytes
    host: str = ""  # value of Host, or the authority of an absolute target; empty in HTTP/1.0 without one
    content_type: str = ""
    traceparent: str = ""  # value of the W3C header, or empty
    length: int = 0  # declared length of the body in bytes; 0 without a body, -1 for a chunked one
    expects_continue: bool = False  # whether the sender waits for `100 Continue` before it sends the body
    compressed: bool = False  # whether there is a Content-Encoding


def take_head(buffer: bytes, searched: int) -> tuple[Head | None, bytes]:
    """Return the head at the beginning of a buffer, and the rest of it; None: the head is incomplete.

    Up to the offset `searched`, the buffer contains no end of a head. May raise MalformedRequestError.
    """
    if buffer.startswith((b"\r", b"\n")):
        buffer = _skip_empty_lines(buffer)
    end = buffer.find(b"\r\n\r\n", searched)
    if end < 0 and len(buffer) <= limits.MAX_HEADER_BYTES:
        if _BARE_LF.search(buffer, searched):
            raise MalformedRequestError(400, "HEADER_MALFORMED", "a line ends with LF alone")
        return None, buffer
    if not 0 <= end <= limits.MAX_HEADER_BYTES:
        raise MalformedRequestError(431, "HEADER_TOO_LARGE", "the head is too large")
    return parse_head(buffer[: end + 2]), buffer[end + 4 :]


def _skip_empty_lines(data: bytes) -> bytes:
    """Return `data` without the empty lines before a request, which a server ignores (RFC 9112, section 2.2)."""
    rest = data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr] # also matches the empty string
    if rest.startswith((b"\r", b"\n")) and rest != b"\r":
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "an empty line ends with CR or LF alone")
    return rest


class _Fields:
    """The callbacks of llhttp that collect header fields."""

    __slots__ = ("complete", "pairs", "special")

    def __init__(self) -> None:
        self.pairs: list[tuple[str, bytes]] = []
        self.special: dict[str, list[bytes]] = {}
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = _lower_name(name)
        value = value.strip(b" \t")
        self.pairs.append((lowered, value))
        if lowered in _SPECIAL:
            if lowered in self.special:
                self.special[lowered].append(value)
            else:
                self.special[lowered] = [value]

    def on_headers_complete(self) -> None:
        """Record that llhttp accepts all fields; it may refuse the framing of the body afterwards."""
        self.complete = True


def parse_head(data: bytes) -> Head:
    """Parse a request's head, up to and including the CRLF of its last line; may raise MalformedRequestError."""
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "no HTTP request line")
    method, target, major, minor = line.groups()
    if method == b"CONNECT":  # some servers read no body of it
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "CONNECT is for proxies")
    if major != b"1":
        raise MalformedRequestError(505, "HTTP_VERSION_UNSUPPORTED", "not HTTP/1")
    if data.count(b"\r\n", line.end()) > MAX_FIELDS:  # checked before any field is parsed
        raise MalformedRequestError(431, "HEADER_TOO_LARGE", "too many header fields")
    fields, refusal = _parse_fields(data)
    if refusal and not fields.pairs:  # it may be about the request line
        fields, refusal = _parse_fields(_STAND_IN + data[line.end() :])
    if refusal:
        raise _refusal_of(refusal)
    return build_head(method, target, fields, http10=minor == b"0", size=len(data))


def head_from_tornado(start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Head:
    """Return a head that Tornado has parsed (its names in no order), or raise MalformedRequestError."""
    method, target, version = map(str, start_line)
    fields = _Fields()
    for name, value in headers.get_all():
        fields.on_header(name.encode("ascii"), value.encode("latin-1"))
    size = len(method) + len(target) + len(version) + sum(len(name) + len(value) + 4 for name, value in fields.pairs)
    return build_head(method.encode(), target.encode("latin-1"), fields, http10=version == "HTTP/1.0", size=size)


def _parse_fields(data: bytes) -> tuple[_Fields, str]:
    """Have llhttp parse a head that lacks the empty line at its end; return the fields, and why llhttp refuses it.

    Of valid request lines llhttp refuses methods that are not on its list, where any token is one, methods of other
    protocols, targets in UTF-8, which senders send, and HTTP/1.2 to 1.9. MalformedRequestError: a name is too long.
    """
    fields = _Fields()
    try:
        HttpRequestParser(fields).feed_data(data + b"\r\n")
    except HttpParserUpgrade:  # the sender offers another protocol, and is answered in this one
        pass
    except HttpParserError as error:
        if isinstance(error.__context__, MalformedRequestError):
            raise error.__context__ from None
        if not fields.complete:  # else it is about the framing, which `_body_length` refuses with a reason
            return fields, str(error)
    return fields, ""


def _refusal_of(text: str) -> MalformedRequestError:
    if text == "Empty Transfer-Encoding":
        return MalformedRequestError(501, "TRANSFER_CODING_UNKNOWN", text)
    if "Content-Length" in text or "Transfer-Encoding" in text:
        return MalformedRequestError(400, "FRAMING_INVALID", text)
    return MalformedRequestError(400, "HEADER_MALFORMED", text)


def build_head(method: bytes, target: bytes, fields: _Fields, *, http10: bool, size: int) -> Head:
    authority: bytes | None = None
    if not target.startswith(b"/"):
        authority, target = _split_target(target)
    try:
        name, text = method.decode("ascii"), target.decode()
    except UnicodeDecodeError:
        raise MalformedRequestError(400, "REQUEST_MALFORMED", "the target is neither ASCII nor UTF-8") from None
    path, _, query = text.partition("?")
    head = Head(name, text, path, query, http10, not http10, fields.pairs, size)
    _interpret(head, fields.special)
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
    if (len(lengths) > 1 and len(set(lengths)) > 1) or _LENGTH.fullmatch(lengths[0]) is None:
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
    if len(name) > MAX_NAME_BYTES:  # what raises is not cached
        raise MalformedRequestError(400, "HEADER_MALFORMED", "the name of a field is too long")
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
