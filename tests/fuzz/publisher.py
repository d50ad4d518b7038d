"""A server of keys and certificates for edges: it sends good documents and broken ones, or misbehaves.

The requested path, or the ID of the requested key, contains one of `BEHAVIOURS`, which selects the answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from support.senders import SenderKeys

HOSTS: Final = ("sns.eu-central-1.amazonaws.com", "api.paypal.com", "sandbox.plaid.com")
BEHAVIOURS: Final = (
    "good", "good", "good", "broken", "broken", "broken", "garbage", "empty", "huge", "error", "missing", "moved",
    "slow", "short", "notHttp", "badLength", "badChunk", "badCoding", "expired", "otherKey", "nested",
)  # fmt: skip

_BEHAVIOUR: Final = re.compile("|".join(dict.fromkeys(BEHAVIOURS)))
_BROKEN_BYTES: Final = b'\n\r \x00\xff=-{}[]":,0aA+/'
_HANG_SECONDS: Final = 7.0

_RAW: Final[Mapping[str, bytes]] = {
    "error": b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
    "missing": b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
    "moved": b"HTTP/1.1 302 x\r\nLocation: https://sandbox.plaid.com/good\r\nContent-Length: 0\r\n\r\n",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "notHttp": b"\x00\xffHTTP 200\n\n\n",
    "badLength": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nContent-Length: x\r\n\r\n{}",
    "badChunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "badCoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
}


class Publisher:
    """Answers over plain HTTP and TLS.

    Attributes:
        served: number of requests by behaviour.
    """

    def __init__(self, keys: SenderKeys, source: random.Random) -> None:
        """Serve the public halves of `keys`; take every decision on how to break them from `source`."""
        self._keys = keys
        self._random = source
        self._certificates = {
            "good": keys.certificate(),
            "expired": keys.certificate(expired=True),
            "otherKey": keys.certificate(on_curve=True),
        }
        self.served: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_HANG_SECONDS + 5):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"content-length: *([0-9]+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                writer.write(await self._answer(head.split(" ")[1], body))
                await writer.drain()
        with suppress(OSError):
            writer.close()

    async def _answer(self, target: str, body: bytes) -> bytes:
        if body:
            with suppress(ValueError):
                target = f"/plaid/{json.loads(body)['key_id']}"
        found = _BEHAVIOUR.search(target)
        behaviour = found[0] if found else "good"
        self.served[behaviour] += 1
        if behaviour == "slow":
            await asyncio.sleep(_HANG_SECONDS)
        return _RAW.get(behaviour) or _response(self._document(target, behaviour))

    def _document(self, target: str, behaviour: str) -> bytes:
        good: Callable[[str], bytes]
        if target.startswith("/plaid/"):
            good = partial(self._plaid, target.removeprefix("/plaid/"))
        elif target.startswith("/jwks"):
            good = self._key_set
        elif "Action=" in target:
            return b"<ok/>"
        else:
            good = lambda behaviour: self._certificates.get(behaviour) or self._certificates["good"]  # noqa: E731
        match behaviour:
            case "garbage":
                return self._random.randbytes(300)
            case "empty":
                return b""
            case "huge":
                return good("good") * 1000
            case "nested":
                return b'{"keys":[' * 3000
            case "broken":
                return self._broken(good("good"))
            case _:
                return good(behaviour)

    def _plaid(self, key_id: str, behaviour: str) -> bytes:
        shown = self._jwk() | {"kid": key_id, "expired_at": 1 if behaviour == "expired" else None}
        return json.dumps({"key": shown if behaviour != "otherKey" else {"kty": "oct", "k": "AA"}}).encode()

    def _key_set(self, behaviour: str) -> bytes:
        odd = ({}, 1, {"kid": "a"}, {"kid": "b", "kty": "RSA", "n": "AA", "e": "AA"}, {"kid": "c", "kty": []})
        odder = ({"kid": "one", "kty": "EC", "crv": "P-256", "x": 1, "y": {}}, {"kid": "d", "kty": "OKP", "crv": "X"})
        return json.dumps({"keys": [*odd, *(odder if behaviour != "good" else ()), self._jwk()]}).encode()

    def _jwk(self) -> dict[str, object]:
        return dict(self._keys.token.as_dict(private=False)) | {"kid": "one"}

    def _broken(self, document: bytes) -> bytes:
        data = bytearray(document)
        for _ in range(self._random.choice((1, 1, 2, 5))):
            place = self._random.randrange(len(data))
            match self._random.randrange(3):
                case 0:
                    data[place] = self._random.choice(_BROKEN_BYTES)
                case 1:
                    del data[place : place + self._random.choice((1, 5, 2000))]
                    data = data or bytearray(b"{")
                case _:
                    data[place:place] = bytes(self._random.choices(_BROKEN_BYTES, k=3))
        return bytes(data)


@asynccontextmanager
async def running_publisher(publisher: Publisher, context: ssl.SSLContext) -> AsyncIterator[tuple[int, int]]:
    """Run the publisher and yield its ports: of plain HTTP, and of TLS."""
    plain = await asyncio.start_server(publisher.serve, "127.0.0.1", 0)
    secure = await asyncio.start_server(publisher.serve, "127.0.0.1", 0, ssl=context)
    async with plain, secure:
        yield plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1]


def _response(document: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(document) + document
