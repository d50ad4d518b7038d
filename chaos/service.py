"""The service that flows call: an HTTP server of this process that records each call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from chaos.peers import Peers

HOLD_SECONDS: Final = 0.03
"""Time that each call takes."""


@dataclass(slots=True)
class Call:
    """One call, as the service saw it.

    Attributes:
        execution_id: of the execution that made it.
        step: name of its task.
        number: of the event that started the execution.
        key: order key of the event.
        runner: the runner that made it; empty: not known.
        began: `time.monotonic()` at which it was received.
        answered: `time.monotonic()` at which its answer was sent; None: its caller hung up before.
    """

    execution_id: str
    step: str
    number: int
    key: int
    runner: str
    began: float
    answered: float | None = None


class Service:
    """Records calls; `url` is where flows find it."""

    def __init__(self, runners: Peers) -> None:
        self._runners = runners
        self.calls: list[Call] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a call after `HOLD_SECONDS`."""
        body = await request.json()
        execution_id = request.headers["Idempotency-Key"].partition(":")[0]
        began, runner = time.monotonic(), self._runners.name_of(request.transport)
        call = Call(execution_id, request.match_info["step"], body["n"], body["key"], runner, began)
        self.calls.append(call)
        await asyncio.sleep(HOLD_SECONDS)
        call.answered = time.monotonic()
        return web.json_response({"ok": True})


@asynccontextmanager
async def running_service(runners: Peers) -> AsyncIterator[Service]:
    """Serve on a free port until the block is left."""
    service = Service(runners)
    application = web.Application()
    application.router.add_post("/{step}", service.handle)
    # a call whose runner was killed must not go on: it would look like one execution more at a time
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
