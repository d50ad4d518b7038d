"""A service that flows call: it counts, and answers when it is let to."""

from __future__ import annotations

import asyncio

from aiohttp import web
from support.patience import PATIENCE


class CountingService:
    """Answers paths under `/slow` when `release` is set, others after `pause` seconds."""

    def __init__(self):
        self.keys = []
        self.paths = []
        self.release = asyncio.Event()
        self.arrived = asyncio.Condition()
        self.pause = 0.0
        self.base = ""

    async def handle(self, request):
        async with self.arrived:
            self.keys.append(request.headers["Idempotency-Key"])
            self.paths.append(request.path)
            self.arrived.notify_all()
        if request.path.startswith("/slow"):
            await self.release.wait()
        elif self.pause:
            await asyncio.sleep(self.pause)
        return web.json_response({"n": len(self.keys)})

    async def until(self, count):
        async with asyncio.timeout(PATIENCE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.keys) >= count)


def call(base, path):
    """Return a task that calls it."""
    return {"call": "http", "with": {"method": "get", "endpoint": base + path}}
