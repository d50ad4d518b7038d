"""Generates large bodies, which an edge streams: whole, cut off, badly framed, wrongly signed."""

from __future__ import annotations

import json
import random
from typing import Final

from fuzz.drafts import Drafts, chunked
from fuzz.flows import LARGE
from fuzz.payloads import compressed
from fuzz.signing import Draft

MIB: Final = 1024 * 1024
FLOWS: Final = (*LARGE, *LARGE, "open", "github", "slack", "standard", "shopify", "discord", "raw", "key", "jwks", "x")
"""Flows that accept bodies above 1 MiB; an edge streams some and buffers others."""


class Uploads:
    """Generates requests with large bodies."""

    def __init__(self, drafts: Drafts, source: random.Random) -> None:
        """Take every decision from `source`."""
        self._drafts = drafts
        self._random = source
        self._noise = source.randbytes(3 * MIB)
        self._text = json.dumps({"a": [{"b": "x" * 40, "c": index} for index in range(40_000)]}).encode()

    def make(self) -> bytes:
        """Return one request, whole or broken."""
        pick = self._random.choice
        name = pick(FLOWS)
        draft = self._drafts.valid(name, plain=True)
        draft.plain = False
        kind, draft.body = self._body()
        draft.headers = [each for each in draft.headers if each[0] != "Content-Type"]
        if kind:
            draft.headers.append(("Content-Type", kind))
        if self._random.random() < 0.15:
            coding = pick(("gzip", "br", "deflate"))
            draft.headers.append(("Content-Encoding", coding))
            if self._random.random() < 0.5:
                draft.body = compressed(self._noise[:1_200_000], coding, 15)
        self._sign(draft, name)
        if self._random.random() < 0.15:
            draft.headers.append(("Expect", "100-continue"))
        return self._framed(draft)

    def _body(self) -> tuple[str, bytes]:
        pick = self._random.choice
        size = pick((MIB, MIB + 1, 1_100_000, 1_300 * 1024, 1_400_000, 2_500_000))
        match self._random.randrange(6):
            case 0 | 1:
                return pick(("application/octet-stream", "", "image/png")), self._noise[:size]
            case 2:
                return "application/json", self._text[: pick((len(self._text), size))]
            case 3:
                return pick(("text/plain", "text/xml", "application/x-www-form-urlencoded")), self._text[:size]
            case _:
                return pick(
                    ("multipart/form-data; boundary=b", "multipart/mixed; boundary=b", "multipart/x")
                ), self._form()

    def _form(self) -> bytes:
        pick = self._random.choice
        names = (
            'name="f"; filename="a.bin"',
            'name="a[b][c]"',
            "name*=utf-8''%C3%A9",
            'filename="../x"',
            "x" * 9000,
            "",
        )
        parts = []
        for size in pick(((1_100_000,), (600_000, 700_000), (5, 1_100_000, 5), (1_100,) * 1_001, (10,) * 40 + (MIB,))):
            start = self._random.randrange(100_000)
            head = f"--b\r\nContent-Disposition: form-data; {pick(names)}"
            head += pick(("", "\r\nContent-Type: application/json", "\r\nX"))
            parts.append(head.encode() + b"\r\n\r\n" + self._noise[start : start + size])
        body = b"\r\n".join(parts) + pick(
            (b"\r\n--b--", b"\r\n--b--\r\n", b"\r\n--b", b"", b"\r\n--b--x" + b"y" * 100_000)
        )
        return body if len(body) > MIB else body + b"\r\n" + bytes(MIB)

    def _sign(self, draft: Draft, name: str) -> None:
        if name == "files-signed":
            draft.headers = [each for each in draft.headers if each[0] != "X-Signature"]
            if self._random.random() < 0.75:
                self._drafts.sign(draft, name)
            else:
                draft.headers.append(("X-Signature", "00" * 32))

    def _framed(self, draft: Draft) -> bytes:
        pick, head, body = self._random.choice, self._drafts.head(draft), draft.body
        if self._random.random() < 0.5:
            length = len(body) + pick((0, 0, 0, 0, 0, 0, -1, 1, 70_000_000, 2**40))
            data = head + b"Content-Length: %d\r\n\r\n" % length + body
        else:
            written = chunked(body, pick((999, 65_536, 300_000, len(body))), pick((b"", b"", b";a=b")))
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + written + pick((b"", b"X: y\r\n")) + b"\r\n"
        place = self._random.randrange(len(head), len(data))
        match self._random.randrange(10):
            case 0 | 1:
                return data[:place]
            case 2:
                return data[:place] + self._random.randbytes(3) + data[place:]
            case 3:
                return data[:place] + data[place + 1000 :]
            case _:
                return data
