"""Requests in HTTP/1.1, well-formed and not, and what three parsers make of a connection's bytes."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import h11
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from edge.http.body_framing import BodyFraming
from edge.http.head import MalformedRequestError, take_head

METHODS = [b"GET", b"POST", b"PUT"] * 4 + [
    b"PATCH",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PURGE",
    b"BREW",
    b"get",
    b"CONNECT",
]
TARGETS = [b"/", b"/hook/a", b"/hook/a?b=c"] * 6 + [
    b"*",
    b"http://a.test/x",
    b"/caf\xc3\xa9",
    b"/\xff",
    b"a",
    b"//a",
    b"/a b",
    b"",
]
VERSIONS = [b"HTTP/1.1"] * 60 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b""]
ENDS = [b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b"\r\n ", b""]
FIELDS = [
    b"Host: a.test",
    b"Host: b.test",
    b"host:a",
    b"Host:",
    b"X: y",
    b"X:\ty ",
    b"X: \xe9",
    b"X: a\x00b",
    b"X : y",
    b" X: y",
    b": y",
    b"X",
    b"Content-Type: text/plain",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: x",
    b"X: " + b"z" * 300,
    b"Cookie: a=b; c=d",
]
FRAMINGS = [b"Content-Length: %d", b"Transfer-Encoding: chunked", b""] * 30 + [
    b"content-length:%d ",
    b"Content-Length: 0%d",
    b"Content-Length: +%d",
    b"Content-Length: %d, %d",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length: 0x%x",
    b"Content-Length:",
    b"Content-Length: 1\r\nContent-Length: %d",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Content_Length: %d",
    b"Content-Length: %d\x00",
    b"",
]
CONTENTS = [b"", b"x", b"hello", b"0\r\n\r\n", b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"a" * 40]
EXTENSIONS = [b""] * 30 + [b";a", b";a=b", b';a="b"', b"; a", b" ;a", b" ", b";a\n", b";", b";\xff"]
TRAILERS = [b""] * 20 + [b"X: y\r\n", b"Content-Length: 5\r\n", b"bad\r\n", b" folded\r\n", b"X: y\n"]
BYTES = [b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\xff", b"\x0b", b"\x85"]
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def generate(random: Random) -> bytes:
    """Return the bytes of one connection: a request, perhaps mutated, and one more after it."""
    content = random.choice(CONTENTS)
    framing = random.choice(FRAMINGS)
    count = framing.count(b"%d") + framing.count(b"%x")
    length = len(content) if random.random() < 0.8 else random.randrange(50)
    framing = framing % ((length,) * count)
    fields = [b"Host: a.test"] * (random.random() < 0.97) + random.sample(
        FIELDS, random.choice([0, 0, 0, 0, 0, 0, 1, 1, 2])
    )
    fields.insert(random.randrange(len(fields) + 1), framing)
    line = b" ".join((random.choice(METHODS), random.choice(TARGETS), random.choice(VERSIONS)))
    strict = random.random() < 0.85

    def end():
        return b"\r\n" if strict else random.choice(ENDS)

    head = line + end() + b"".join(field + end() for field in fields if field) + end()
    if framing or random.random() < 0.1:
        head += _chunked(random, content) if b"hunked" in framing else content
    data = head
    for _ in range(random.choice([0, 0, 0, 0, 0, 0, 1, 2, 5])):
        place = random.randrange(len(data) + 1)
        retained = place + random.choice([0, 0, 1, 2])
        data = data[:place] + random.choice([b"", *BYTES]) + data[retained:]
    return data + NEXT


def _chunked(random: Random, content: bytes) -> bytes:
    parts = [content[:2], content[2:]] if len(content) > 2 and random.random() < 0.5 else [content] * bool(content)
    size = random.choice([b"%x"] * 12 + [b"%X", b"0%x", b"0x%x", b"+%x", b" %x"])
    chunks = [size % len(part) + random.choice(EXTENSIONS) + b"\r\n" + part + b"\r\n" for part in parts]
    return b"".join(chunks) + b"0" + random.choice(EXTENSIONS) + b"\r\n" + random.choice(TRAILERS) + b"\r\n"


class Seen(NamedTuple):
    """What a parser makes of bytes: complete messages (method, body), and why it went no further."""

    messages: list[tuple[bytes, bytes]]
    end: str
    """`refused`, `incomplete`, or `closed`: what follows is not a request."""


def ours(data: bytes) -> Seen:
    """Read as a connection of the edge does."""
    messages = []
    while True:
        try:
            head, data = take_head(data, 0)
            if head is None:
                return Seen(messages, "incomplete")
            framing, body = BodyFraming(head.length), bytearray()
            content, data = framing.take(data)
            body += content
            while framing.has_more:
                content, data = framing.take(data)
                body += content
        except MalformedRequestError:
            return Seen(messages, "refused")
        if framing.unread:
            return Seen(messages, "incomplete")
        messages.append((head.method.encode(), bytes(body)))
        if not head.keep_alive:
            return Seen(messages, "closed")


def of_h11(data: bytes) -> Seen:
    """Read as h11 does."""
    messages = []
    while data:  # h11 takes no data for the end of the connection
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            connection.receive_data(data)
            body, method = b"", b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    return Seen(messages, "incomplete")
                if isinstance(event, h11.Request):
                    method = event.method
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
        except h11.RemoteProtocolError:
            return Seen(messages, "refused")
        messages.append((method, body))
        if connection.their_state is h11.MUST_CLOSE:
            return Seen(messages, "closed")
        data = connection.trailing_data[0]
    return Seen(messages, "incomplete")


class _Collector:
    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.parser = HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages.append((self.parser.get_method(), self.body))


def of_llhttp(data: bytes) -> Seen:
    """Read as llhttp does, with none of its leniencies."""
    collector = _Collector()
    try:
        collector.parser.feed_data(data)
    except HttpParserUpgrade:  # httptools takes what follows an offered upgrade for another protocol, even a body
        return Seen(collector.messages[:-1], "closed")
    except HttpParserError as error:
        return Seen(collector.messages, "closed" if "Connection: close" in str(error) else "refused")
    return Seen(collector.messages, "incomplete")
