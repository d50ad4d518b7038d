"""The service that flows call: HTTP servers of this process that record each call, one of which fails on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from chaos import flows
from chaos.peers import Peers

LOOPBACK: Final = "127.0.0.1"
OK: Final = 200
MAX_BYTES: Final = 8 * 1024**2
HANG_SECONDS: Final = 60.0
"""Time after which a call that is left unanswered is given up here; its caller does so earlier."""
LOOK_SECONDS: Final = 0.02
LOOKS: Final = 3
"""What is received is processed at the latest in the last of so many looks."""
UP_SECONDS: Final = 9.0
DOWN_SECONDS: Final = 3.0
"""Time for which the service that fails is up, and for which it is down, in turns.

Down means that it refuses connections, and answers 503 on those that there are.
"""


@dataclass(slots=True)
class Call:
    """One call, as the service saw it; times are of `time.monotonic()`.

    Attributes:
        key: its Idempotency-Key.
        execution_id: of the execution that made it.
        step: name of its task.
        delivery: of the event that is behind it.
        number: of the event among those of its flow and order key.
        order_key: of the event.
        runner: the runner that made it; empty: not known.
        began: when it was seen to have been received.
        answered: when its answer was sent; None: its caller hung up before, or it was left unanswered.
        succeeded: whether the answer was a success, which is not tried again.
        intact: whether a large body arrived as it was sent.
        received: when it was received at the earliest: this process may have stood still since then; None: at `began`.
    """

    key: str
    execution_id: str
    step: str
    delivery: str
    number: int
    order_key: int
    runner: str
    began: float
    answered: float | None = None
    succeeded: bool = False
    intact: bool = True
    received: float | None = None

    @property
    def earliest(self) -> float:
        """When it was received at the earliest."""
        return self.began if self.received is None else self.received


def token_of(delivery: str) -> str:
    """Return what the service answers to the calls for a delivery, and flows reply with."""
    return hashlib.sha256(delivery.encode()).hexdigest()[:32]


class Service:
    """Records calls.

    Args:
        runners: finds who calls.
        asked: is called with the delivery and the one-time URL that a flow tells.

    Attributes:
        urls: where flows find it, and the part that fails (true).
        calls: in the order in which they were received.
        stalled_seconds: longest time for which this process did nothing.
        down: whether the part that fails is down.
    """

    def __init__(self, runners: Peers, asked: Callable[[str, str], None]) -> None:
        self._runners = runners
        self._asked = asked
        self._tries: Counter[str] = Counter()
        self._looks: deque[float] = deque([time.monotonic()] * LOOKS, LOOKS)
        self.stalled_seconds = 0.0
        self.down = False
        self.urls: Mapping[bool, str] = {}
        self.calls: list[Call] = []

    async def watch(self) -> None:
        """Note when this process looks for what it received, until this is cancelled: a busy machine may suspend it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            self.stalled_seconds = max(self.stalled_seconds, now - self._looks[-1])
            self._looks.append(now)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a call after the time that its step takes."""
        call, body = await self._receive(request)
        if call.step == "ask":
            self._asked(call.delivery, body["url"])
        if call.step == "content":
            call.intact = hashlib.sha256(body["text"].encode()).hexdigest() == body["digest"]
        await asyncio.sleep(flows.hold_seconds(call.step))
        return _answer(call)

    async def fail(self, request: web.Request) -> web.StreamResponse:
        """Fail some calls in one way or another.

        Seldom enough that probes of a destination that is up again hardly fail often in a row: the time between them
        doubles with each.
        """
        call, _ = await self._receive(request)
        chance = zlib.crc32(f"{call.key} {self._tries[call.key]}".encode())
        if self.down:
            return _answer(call, 503)
        self._tries[call.key] += 1
        match chance % 32:
            case 0 | 1:
                return _answer(call, 500)
            case 2 | 3:
                return _answer(call, 503)
            case 4 | 5:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)
            case 6:
                await asyncio.sleep(HANG_SECONDS)
                return web.Response(status=500)
        return _answer(call)

    async def _receive(self, request: web.Request) -> tuple[Call, dict[str, str]]:
        began, received, runner = time.monotonic(), self._looks[0], self._runners.name_of(request.transport)
        key = request.headers["Idempotency-Key"]
        body = await request.json()
        step = request.match_info["step"]
        call = Call(
            key, key.partition(":")[0], step, body["delivery"], int(body["n"]), int(body["key"]), runner, began,
            received=received,
        )  # fmt: skip
        self.calls.append(call)
        return call, body


def _answer(call: Call, status: int = OK) -> web.Response:
    call.answered, call.succeeded = time.monotonic(), status == OK
    return web.json_response({"token": token_of(call.delivery)}, status=status)


@asynccontextmanager
async def running_service(runners: Peers, asked: Callable[[str, str], None]) -> AsyncIterator[Service]:
    """Serve on free ports until the block is left."""
    service = Service(runners, asked)
    reliable, unreliable = _runner(service.handle), _runner(service.fail)
    await reliable.setup()
    await unreliable.setup()
    ports = [await _listen(reliable), await _listen(unreliable)]
    service.urls = {fails: f"http://{LOOPBACK}:{port}" for fails, port in zip((False, True), ports, strict=True)}
    background = {asyncio.create_task(_refuse(service, unreliable, ports[1])), asyncio.create_task(service.watch())}
    try:
        yield service
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        await reliable.cleanup()
        await unreliable.cleanup()


def _runner(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
    application = web.Application(client_max_size=MAX_BYTES)
    application.router.add_post("/{step}", handler)
    # a call whose runner was killed must not go on: it would look like one execution more at a time
    return web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)


async def _listen(runner: web.AppRunner, port: int = 0) -> int:
    await web.TCPSite(runner, LOOPBACK, port).start()
    return int(runner.addresses[-1][1])


async def _refuse(service: Service, runner: web.AppRunner, port: int) -> None:
    """Let the service be down now and then."""
    while True:
        await asyncio.sleep(UP_SECONDS)
        for site in list(runner.sites):
            await site.stop()
        service.down = True
        await asyncio.sleep(DOWN_SECONDS)
        service.down = False
        await _listen(runner, port)
