"""Changes bytes and lines of requests at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

LINES: Final = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Content-Length: 9999999999", b"Content-Length : 3", b"Content-Length: 3, 3", b"Content-Length: 0x3",
    b"Content-Length:\t2 ", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:chunked", b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: gzip", b" folded: line", b"\tfolded", b"Host: b", b"Host:", b"Host: a b",
    b"Host: [::1]:8080", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: close", b"Connection: keep-alive",
    b"Connection: x-signature, host", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Authorization: Basic", b"authorization: basic YTpi",
    b"Authorization: Basic \xff\xff", b"X-Api-Key: a secret of the fuzzer", b"X-Api-Key: ", b"Cookie: a=b",
    b"traceparent: \xff\xfe", b"User-Agent: a\x7fb", b"User-Agent: \xc3\xa9\xe9", b"User-Agent: " + b"u" * 9000,
    b"X: " + b"y" * 70_000, b"X" * 300 + b": y", b"Content-Type: application/json; charset=\xff",
    b"Content-Encoding: gzip", b"webhook-id: " + b"i" * 400, b"Stripe-Signature: t=1,v1=,v1",
    b"X-Slack-Request-Timestamp: 99999999999999", b"no colon", b": no name", b"a\x00b: c", b"X: a\rb", b"X: a\nb",
    b"TE: trailers", b"",
)  # fmt: skip
BYTES: Final = b"\r\n\t :;,=%&?/#\x00\x0b\x7f\x80\xff0aZ{}[]\"'"
TARGETS: Final = (
    b"/", b"*", b"/hook/", b"/hook/nope", b"/hook/open/%2e%2e/x", b"/hook/open/..;/x", b"/hook/%6fpen",
    b"//hook/open", b"http://x/hook/open", b"https://u:p@x/hook/open", b"http:///hook/open", b"x:443",
    b"/hook/open?%zz=%&&=;a=1;api_key=x", b"/hook/open\xc3\xa9", b"/hook/open\xff",
    b"/hook/query?api%5Fkey=x&api_key=y", b"/hook/" + b"a" * 200, b"/hook/open/" + b"b" * 60_000, b"/hook/open#x",
    b"/hook/echo?k=%00%ff", b"/hook/fuzz.open/approval", b"/hook/fuzz.open/approval/", b"/hook/fuzz.open/closed",
    b"/hook/fuzz.open/approval/01m87fm9r1fnkskrqpvkm555sb.0.LcxJMHPFJM5Md3tkZAe25O2kciM3N6-zHFcnR_qX4Hc",
    b"/hook/fuzz.open/closed/" + b"c" * 128, b"/hook/fuzz.open/approval/..%2f\xff", b"/hook/fuzz.open/closed/.",
)  # fmt: skip


class Mutations:
    """Changes requests at random."""

    def __init__(self, source: random.Random) -> None:
        """Take every decision from `source`."""
        self._random = source
        self._all: Sequence[Callable[[bytearray], None]] = (
            self._change_byte, self._drop_bytes, self._add_bytes, self._repeat_slice, self._cut, self._add_line,
            self._add_line, self._drop_line, self._repeat_line, self._swap_lines, self._change_target,
            self._change_version, self._change_method,
        )  # fmt: skip

    def break_up(self, request: bytes) -> bytes:
        """Return a request with one to four changes."""
        data = bytearray(request)
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            if data:
                self._random.choice(self._all)(data)
        return bytes(data)

    def pieces(self, data: bytes) -> list[bytes]:
        """Return data cut into up to five pieces."""
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.choice((0, 0, 0, 1, 4))))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if end > start]

    def _place(self, data: bytearray) -> int:
        # mostly in the head, which most code reads
        end = data.find(b"\r\n\r\n")
        return self._random.randrange(end + 4 if end >= 0 and self._random.random() < 0.8 else len(data))

    def _change_byte(self, data: bytearray) -> None:
        data[self._place(data)] = self._random.choice(BYTES)

    def _drop_bytes(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._random.choice((1, 1, 2, 10))]

    def _add_bytes(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = bytes(self._random.choices(BYTES, k=self._random.choice((1, 1, 2, 8))))

    def _repeat_slice(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = data[place : place + self._random.randrange(1, 60)] * self._random.choice((1, 2, 300))

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _change_lines(self, data: bytearray, change: Callable[[list[bytes]], None]) -> None:
        head, separator, body = bytes(data).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        change(lines)
        data[:] = b"\r\n".join(lines) + separator + body

    def _add_line(self, data: bytearray) -> None:
        line = self._random.choice(LINES)
        self._change_lines(data, lambda lines: lines.insert(self._random.randrange(len(lines)) + 1, line))

    def _drop_line(self, data: bytearray) -> None:
        self._change_lines(data, lambda lines: lines.__delitem__(self._random.randrange(len(lines))))

    def _repeat_line(self, data: bytearray) -> None:
        times = self._random.choice((1, 1, 1, 300))
        self._change_lines(data, lambda lines: lines.extend([self._random.choice(lines)] * times))

    def _swap_lines(self, data: bytearray) -> None:
        self._change_lines(data, self._random.shuffle)

    def _change_target(self, data: bytearray) -> None:
        self._change_word(data, 1, self._random.choice(TARGETS))

    def _change_version(self, data: bytearray) -> None:
        versions = (b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"")
        self._change_word(data, 2, self._random.choice(versions))

    def _change_method(self, data: bytearray) -> None:
        methods = (b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"post", b"P@ST", b"DELETE", b"GET", b"TRACE")
        self._change_word(data, 0, self._random.choice(methods))

    def _change_word(self, data: bytearray, index: int, word: bytes) -> None:
        line, separator, rest = bytes(data).partition(b"\r\n")
        words = line.split(b" ")
        words[index : index + 1] = [word]
        data[:] = b" ".join(words) + separator + rest
