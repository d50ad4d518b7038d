"""A stand-in for the outside world: a real HTTP server on a free port that remembers every request in order."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from aiohttp import web
from support.http_servers import http_server


@dataclass(frozen=True)
class ReceivedCall:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self):
        return self.headers.get("Idempotency-Key", "")


class Outside:
    """What it received, and what it answers.

    `answer(received)` gives status, JSON value and, where there are any, headers; or is awaited for that. A path
    that is `broken` is answered with 503 and what is said there of it.
    """

    def __init__(self, answer):
        self.received: list[ReceivedCall] = []
        self.url = ""
        self.broken: dict[str, Any] = {}
        self._answer = answer

    async def handle(self, request):
        received = ReceivedCall(request.method, request.path_qs, dict(request.headers), await request.read())
        self.received.append(received)
        if received.path in self.broken:
            return web.json_response(self.broken[received.path], status=503)
        answer = self._answer(received)
        status, value, *headers = await answer if isawaitable(answer) else answer
        return web.json_response(value, status=status, headers=headers[0] if headers else None)


@asynccontextmanager
async def outside_world(answer=lambda _received: (200, {"ok": True})):
    outside = Outside(answer)
    async with http_server(outside.handle) as outside.url:
        yield outside
