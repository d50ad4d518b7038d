"""Keeps the Attach stream: reads, writes what gathered, renews, and attaches again when it breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Final

import grpc.aio

from flowhook import logs
from flowhook.errors import FlowhookError, InvalidError, UnavailableError
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import status
from runner import session
from runner.worker import bridge, window
from runner.worker.executions import Executions, perform_all

MIN_BACKOFF: Final = 0.05
MAX_BACKOFF: Final = 1.0
"""Seconds between attempts to attach, doubled each time, with jitter."""

WELCOME_SECONDS: Final = 5.0
"""How long the router may take to answer hello."""

log = logs.get_logger(__name__)


_Call = grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]


class Attachment:
    """The connection of one session to the router."""

    def __init__(
        self, channel: grpc.aio.Channel, link: session.Session, clock: Callable[[], float], capacity: int
    ) -> None:
        """Attach over `channel`, which stays the caller's; `clock` gives seconds, monotonic."""
        self._stub = runner_service_pb2_grpc.RunnerServiceStub(channel)
        self._link = link
        self._clock = clock
        self._pending = asyncio.Event()
        self._received = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._window = window.Window(capacity)
        self._awaited: tuple[bytes, float] | None = None  # an outcome that was sent, and when
        link.limit(self._window.size)
        self.on_attached: Callable[[], None] = lambda: None
        self.on_detached: Callable[[str], None] = lambda _detail: None
        self.on_forgotten: Callable[[bytes], None] = lambda _lease: None

    def announce(self) -> None:
        """Say that the session has something to send."""
        self._pending.set()

    async def idle(self) -> None:
        """Wait until nothing is in hand: no work, and no outcome that the router has not settled."""
        while not self._link.idle:
            self._received.clear()
            await self._received.wait()

    async def run(self, executions: Executions) -> None:
        """Stay attached until cancelled."""
        backoff = MIN_BACKOFF
        while True:
            problem = await self._once(executions)
            if self._link.attached:
                backoff = MIN_BACKOFF
            self._link.disconnected()
            detail = f"router: {problem.reason}" if problem else "router closed the stream"
            self.on_detached(detail)
            if problem is not None:
                log.debug("detached", reason=problem.reason, cause=problem.message)
            perform_all(self._link.expire(self._clock()), executions)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _once(self, executions: Executions) -> FlowhookError | None:
        """Live through one stream; returns what ended it, None when the router closed it."""
        call = self._open()
        self._awaited = None
        self._link.connected()
        self._pending.set()
        writer = asyncio.create_task(self._write(call), name="attach writer")
        widener = asyncio.create_task(self._widen(), name="attach widener")
        try:
            await self._read(call, executions)
        except grpc.aio.AioRpcError as error:
            return status.from_rpc_error(error)
        except TimeoutError:
            return UnavailableError("the router does not answer", reason="ROUTER_SILENT")
        except InvalidError as error:
            return error
        finally:
            call.cancel()
            writer.cancel()
            widener.cancel()
            self._stop_renewing()
            await asyncio.gather(writer, widener, return_exceptions=True)
        return None

    def _open(self) -> _Call:
        return self._stub.Attach(None)  # no iterator: requests are written as they come

    async def _read(self, call: _Call, executions: Executions) -> None:
        """Take in what the router says until it closes the stream; the first message has to come in time."""
        async with asyncio.timeout(WELCOME_SECONDS) as limit:
            while isinstance(message := await call.read(), pb.AttachResponse):
                incoming = bridge.incoming(message)
                if incoming is None:
                    continue  # of a newer version
                if isinstance(incoming, session.Settled | session.Revoked):
                    self._answered(incoming.leases)
                for effect in self._link.receive(incoming, self._clock()):
                    match effect:
                        case session.Attached(renew_seconds=seconds):
                            limit.reschedule(None)
                            self._renew_every(seconds)
                            self.on_attached()
                        case session.Reattach(grace=grace):
                            limit.reschedule(asyncio.get_running_loop().time() + grace)
                        case session.Forget(lease=lease) | session.Abandon(lease=lease):
                            self.on_forgotten(lease)
                            perform_all((effect,), executions)
                        case _:
                            perform_all((effect,), executions)
                self._pending.set()
                self._received.set()

    async def _write(self, call: _Call) -> None:
        try:
            while True:
                await self._pending.wait()
                self._pending.clear()
                for message in self._link.take():
                    if isinstance(message, session.Outcomes) and self._awaited is None:
                        self._awaited = (message.outcomes[-1].lease, self._clock())
                    await call.write(bridge.outgoing(message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader learns it too, and knows why

    def _answered(self, leases: Collection[bytes]) -> None:
        """Learn from how long the router took how much it should be asked for."""
        if self._awaited is not None and self._awaited[0] in leases:
            self._window.observe(self._clock() - self._awaited[1], used=self._link.is_full)
            self._awaited = None
            self._resize()

    async def _widen(self) -> None:
        """Let the window grow while all that is in hand waits for others."""
        while True:
            await asyncio.sleep(window.TICK_SECONDS)
            if self._awaited is None and self._link.attached:
                self._window.tick(used=self._link.is_full)
                self._resize()

    def _resize(self) -> None:
        if self._link.limit(self._window.size):
            self._pending.set()

    def _renew_every(self, seconds: float) -> None:
        """Renew all leases now and then, from a timer: nothing waits for it."""

        def renew() -> None:
            self._link.renew(self._clock())
            self._pending.set()
            self._timer = loop.call_later(seconds, renew)

        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, renew)

    def _stop_renewing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
