"""Generates bodies of every kind that Flowhook parses, well-formed and broken."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import brotli

Fields = list[tuple[str, str]]
Payload = tuple[Fields, bytes]
"""Header fields, Content-Type among them, and a body."""

PLAIN: Final[Payload] = ([("Content-Type", "application/json")], b'{"a":1}')
"""A body that every flow accepts."""

TEXTS: Final = (
    "", "a", "0", "é", "\U0001f600", "a b&c=d", "x" * 300, "[", "]", "a[b]", "a[]", "a[0][c]", "%", "%zz", "\\u00e9",
    "\\ud800", "\x00", "\x1b", "\u2028", "../../etc/passwd", "C:\\x", "a;b", '"', "'", "<b>", "&x;", "]]>", "--b",
    "a" + "[b]" * 40, "null", "1e400", "-0", "#text", "@a", "\ufeff", "\ufffe",
)  # fmt: skip
CHARSETS: Final = (
    "", "utf-8", "UTF-16", "utf-32", "utf-7", "latin1", "shift_jis", "iso-2022-jp", "gb18030", "hz", "cp037",
    "punycode", "idna", "unicode_escape", "undefined", "hex", "mbcs", "klingon", '"utf-8"', "\x00", "u" * 900,
)  # fmt: skip
CODINGS: Final = (
    "gzip",
    "deflate",
    "br",
    "x-gzip",
    "identity",
    "zstd",
    "gzip, gzip",
    "br,,gzip",
    "gzip, a, b, c",
    "\xff",
)
NOISE: Final = b"\r\n\t -:;=&[]{}()<>\"'%\\/\x00\x1b\x7f\x80\xc3\xed\xfe\xff0aAbB"

JSONS: Final = (
    '{"type":"url_verification","challenge":"c"}', '{"event":"endpoint.url_validation","payload":{"plainToken":"t"}}',
    '{"type":0}', '{"type":1}', '{"challenge":"<b>"}', '{"value":[{"clientState":"a secret of the fuzzer"}]}',
    '{"value":[]}', '{"value":[{"clientState":["x"]},1]}', '{"id":"d","event_id":"d","event_hook_id":{}}',
    '{"signature":{"timestamp":"1","token":"t","signature":"00"},"event-data":{}}', '{"signature":[]}',
    '{"notificationItems":[{"NotificationRequestItem":{"additionalData":{"hmacSignature":"AA=="},"amount":{}}}]}',
    '{"notificationItems":[{"NotificationRequestItem":1}]}', '{"webhookTimestamp":1e300}', '{"webhookTimestamp":"x"}',
    '{"a":1,"a":2}', '{"a":NaN}', '"\\ud800"', "[" * 1200 + "]" * 1200, '{"a":' * 260 + "1" + "}" * 260, "1" * 400,
    '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}', '{"specversion":1,"id":{},"source":[]}', "{}",
)  # fmt: skip
XMLS: Final = (
    "<a/>", "<a x='1'>t<b/>u<b>v</b></a>", "<?xml version='1.0' encoding='utf-16'?><a/>", "<a>" * 120 + "</a>" * 120,
    "<?xml version='1.0' encoding='unicode_escape'?><a>\\q</a>", "<!DOCTYPE a><a/>", "<a>" * 3000,
    "<a>&#0;&#xd800;</a>", "<!DOCTYPE a [<!ENTITY x 'x'><!ENTITY y '&x;&x;'>]><a>&y;</a>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
    "<a><![CDATA[x]]><!-- c --><?p i?></a>", "<n:a xmlns:n='u'/>", "<n:a/>", "<a b='1' b='2'/>", "<a>&unknown;</a>",
)  # fmt: skip


POOL: Final = 3000
"""Bodies that are generated at first, to be sent again: generating one takes longer than sending it."""

FRESH: Final = 0.3
"""Share of bodies that are generated for one request."""


class Payloads:
    """Generates bodies at random."""

    def __init__(self, source: random.Random, *, pool: int = POOL) -> None:
        """Take every decision from `source`; `fill` generates `pool` bodies."""
        self._random = source
        self._pool_size = pool
        self._pool: list[Payload] = []
        self._kinds: Mapping[Callable[[], str | bytes], tuple[str, ...]] = {
            self._json: ("application/json", "application/x+json", "application/cloudevents+json"),
            self._lines: ("application/x-ndjson", "application/jsonl", "application/cloudevents-batch+json"),
            self._xml: ("application/xml", "text/xml", "image/svg+xml"),
            self._form: ("application/x-www-form-urlencoded",),
            self._properties: ("text/x-java-properties",),
            self._multipart: ("multipart/form-data; boundary=b", 'multipart/mixed; boundary="b"', "multipart/related"),
            self._text: ("text/plain", "text/html", "image/png", "", "a", "application/json; charset=utf-16"),
        }

    def fill(self) -> None:
        """Generate the bodies that are sent again."""
        self._pool = [self._make() for _ in range(self._pool_size)]

    def make(self) -> Payload:
        """Return a body with its header fields, which it may contradict."""
        if self._pool and self._random.random() >= FRESH:
            fields, body = self._random.choice(self._pool)
            return list(fields), body
        return self._make()

    def _make(self) -> Payload:
        chance, pick = self._random.random, self._random.choice
        kind = pick(list(self._kinds))
        media_type, content = pick(self._kinds[kind]), kind()
        if chance() < 0.05:
            media_type = pick([each for types in self._kinds.values() for each in types])
        charset = pick(CHARSETS) if chance() < 0.3 else ""
        body = content if isinstance(content, bytes) else self._encoded(content, charset)
        if chance() < 0.3:
            body = self.damaged(body)
        fields = [("Content-Type", f"{media_type}; charset={charset}" if charset else media_type)]
        if chance() < 0.1:
            fields += [(f"ce-{name}", pick(TEXTS[:8])) for name in ("specversion", "id", "source", "type", "", "data")]
        if chance() < 0.25:
            coding = pick(CODINGS)
            fields.append(("Content-Encoding", coding))
            body = self._compressed(body, coding)
        return [(name, value.replace("\r", "").replace("\n", "")) for name, value in fields], body

    def _words(self) -> list[str]:
        return [self._random.choice(TEXTS) for _ in range(self._random.choice((0, 1, 2, 3, 12)))]

    def _many(self, count: int) -> int:
        """Return how often something is repeated: rarely `count` times, which takes long to parse."""
        return count if self._random.random() < 0.03 else 1

    def _json(self) -> str:
        if self._random.random() < 0.6:
            return self._random.choice(JSONS)
        words = self._words()
        value: Any = dict.fromkeys(words, words)
        return json.dumps(value, ensure_ascii=self._random.random() < 0.5)

    def _lines(self) -> str:
        return self._random.choice(("\n", "\r\n", "\n\n", ",")).join(self._json() for _ in range(3))

    def _xml(self) -> str:
        if self._random.random() < 0.6:
            return self._random.choice(XMLS)
        return "<a>" + "".join(f"<{word} {word}='{word}'>{word}</{word}>" for word in self._words()) + "</a>"

    def _form(self) -> str:
        separator = self._random.choice(("&", "&", ";", "&&"))
        pairs = [f"{word}={self._random.choice(TEXTS)}" for word in self._words()]
        return separator.join(pairs) * self._many(2000)

    def _properties(self) -> str:
        return "\n".join(word + self._random.choice(("=", ":", " ", "", "\\\n")) + "v" for word in self._words())

    def _text(self) -> str:
        return "".join(self._words())

    def _multipart(self) -> bytes:
        pick = self._random.choice
        parts = []
        for word in self._words():
            parameters = (
                f'; name="{word}"', f"; name={word}", f'; filename="{word}"', f"; filename*=UTF-8''{word}",
                f"; filename*=utf-7''{word}", f"; name*0={word}; name*2*={word}", ";" * 3000, f"; {word}",
            )  # fmt: skip
            header = "Content-Disposition: form-data" + "".join(pick(parameters) for _ in range(pick((0, 1, 2, 2))))
            header += pick(
                ("", "\r\nContent-Type: application/json", "\r\nContent-Type: text/plain; charset=hz", "\r\nX")
            )
            parts.append(f"--b\r\n{header}\r\n\r\n{pick(TEXTS)}\r\n".encode("utf-8", "replace"))
        return b"".join(parts) * self._many(1100) + pick((b"--b--", b"--b--\r\n", b"--b", b"", b"--b--x"))

    def _encoded(self, text: str, charset: str) -> bytes:
        try:
            return text.encode(charset.strip('"') or "utf-8", "replace")
        except (LookupError, ValueError):  # UnicodeError among them
            return text.encode("utf-8", "replace")

    def damaged(self, body: bytes) -> bytes:
        """Return a body with up to three changes."""
        data = bytearray(body)
        for _ in range(self._random.choice((1, 1, 3))):
            place = self._random.randrange(len(data) + 1)
            match self._random.randrange(4):
                case 0:
                    del data[place:]
                case 1:
                    del data[place : place + 3]
                case 2:
                    data[place:place] = data[place : place + 40] * 3
                case _:
                    data[place:place] = bytes(self._random.choices(NOISE, k=3))
        return bytes(data)

    def _compressed(self, body: bytes, codings: str) -> bytes:
        wbits = self._random.choice((15, -15))
        body = _bomb(codings, wbits) if self._random.random() < 0.02 else compressed(body, codings, wbits)
        return self.damaged(body) if self._random.random() < 0.3 else body


def compressed(body: bytes, codings: str, wbits: int) -> bytes:
    """Return a body in the codings of a Content-Encoding, without those that are unknown."""
    for coding in codings.split(","):
        match coding.strip():
            case "gzip" | "x-gzip":
                body = gzip.compress(body, 1)
            case "deflate":
                body = zlib.compress(body, 1, wbits=wbits)
            case "br":
                body = brotli.compress(body, quality=1)
            case _:
                pass
    return body


@cache
def _bomb(codings: str, wbits: int) -> bytes:
    """Return a few bytes that decompress to more than any flow accepts."""
    return compressed(b"\0" * 12_000_000, codings, wbits) if "," in codings or codings in _KNOWN else b""


_KNOWN: Final = frozenset({"gzip", "x-gzip", "deflate", "br"})
