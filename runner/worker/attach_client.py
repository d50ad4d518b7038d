"""Maintains the Attach stream: reads, writes buffered messages, renews leases and reconnects when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import attrs
import grpc.aio

from flowhook.attach import codec
from flowhook.attach.messages import Renewed, RouterMessage, Welcome
from flowhook.attach.send_pacing import SendPacer
from flowhook.errors import FlowhookError, InvalidError, UnavailableError
from flowhook.process import logs
from flowhook.process.ticks import until_tick
from flowhook.retrying import CALL
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import status
from flowhook.wire.status import probable_cause
from runner.session import MICROSECONDS, AttachAccepted, Reattach, RouterClock, Session
from runner.worker.execution_driver import ExecutionDriver, apply_effects

# Time that the router has to answer hello. It may be busy; an unreachable one is detected by gRPC within 15 s.
WELCOME_SECONDS: Final = 30.0
# details of gRPC's status when a message could not be written (grpcio, `set_internal_error`)
FAILED_WRITE: Final = "Internal error from Core"

log = logs.get_logger(__name__)

_Call = grpc.aio.StreamStreamCall[codec.Request, codec.Response]


@attrs.define(eq=False, repr=False)
class RouterConnection:
    """The connection of one session to the router."""

    _channel: grpc.aio.Channel  # which the caller owns
    _session: Session
    _clock: Callable[[], float]  # monotonic seconds; that of `router_clock`, which is set by the router's messages
    _router_clock: RouterClock = attrs.field(factory=RouterClock)
    on_attached: Callable[[float], None] = lambda _renew_seconds: None
    on_detached: Callable[[str], None] = lambda _detail: None
    _pending: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _received: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _sent: asyncio.Future[None] | None = attrs.field(init=False, default=None)
    _timer: asyncio.TimerHandle | None = attrs.field(init=False, default=None)
    _pace: SendPacer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = SendPacer(lambda: self._session.running)

    def announce(self, *, urgent: bool = False) -> None:
        """Schedule sending the session's messages: at once if `urgent`, else soon."""
        if urgent:
            self._pace.expedite()
        self._pending.set()

    def sent(self) -> asyncio.Future[None]:
        """Return a future that is done once all present messages were passed to gRPC, or the stream is over."""
        if self._sent is None:
            self._sent = asyncio.get_running_loop().create_future()
        return self._sent

    async def idle(self) -> None:
        """Wait until the session holds no lease: no running execution and no unsettled outcome."""
        while not self._session.idle:
            self._received.clear()
            await self._received.wait()

    async def run(self, executions: ExecutionDriver) -> None:
        """Attach to the router, again after each lost stream; runs until it is cancelled."""
        pauses = CALL.pauses()
        while True:
            problem = await self._once(executions)
            if self._session.attached:
                pauses = CALL.pauses()
            self._session.disconnected()
            if problem is None:
                self.on_detached("router closed the stream")
            else:
                self.on_detached(f"router: {problem.reason}{probable_cause(problem.message)}")
                log.debug("detached", reason=problem.reason, cause=problem.message)
            apply_effects(self._session.expire(self._clock()), executions)
            # attempts fail at once while the channel itself is in backoff; both backoffs together are shorter than the
            # grace period in which a restarted router waits for runners to reconnect
            await asyncio.sleep(next(pauses))

    async def _once(self, executions: ExecutionDriver) -> FlowhookError | None:
        """Run one stream to its end; returns the error that ended it, None when the router closed it."""
        stub = runner_service_pb2_grpc.RunnerServiceStub(self._channel)
        call: _Call = stub.Attach(None)  # no iterator: requests are written explicitly
        self._session.connected(self._clock())
        self._pending.set()
        writer = asyncio.create_task(self._write(call), name="attach writer")
        try:
            await self._read(call, executions)
        except grpc.aio.AioRpcError as error:
            # a failed write on a closed stream hides the real status; the next attempt will reveal it
            return None if is_write_failure(error) else status.from_rpc_error(error)
        except TimeoutError:
            return UnavailableError("the router does not answer", reason="ROUTER_SILENT")
        except InvalidError as error:
            return error
        finally:
            call.cancel()
            writer.cancel()
            if self._timer is not None:
                self._timer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            _done(self._sent)
            self._sent = None
        return None

    async def _read(self, call: _Call, executions: ExecutionDriver) -> None:
        """Process the router's messages until it closes the stream; the first one must arrive in time."""
        async with asyncio.timeout(WELCOME_SECONDS) as limit:
            while isinstance(response := await call.read(), codec.Response):
                now = self._clock()
                for message in codec.decode_response(response):
                    self._set_clock(response.sent_time_ms, message, now)
                    self._take(message, executions, limit)
                self._pending.set()
                self._received.set()

    def _set_clock(self, sent_ms: int, message: RouterMessage, now: float) -> None:
        if not sent_ms:
            return  # a router that does not tell its time
        if isinstance(message, Welcome):
            self._router_clock.attached(sent_ms, now)
            return
        self._router_clock.read(sent_ms, now)
        if isinstance(message, Renewed):
            self._router_clock.answered(sent_ms, min(message.stamp / MICROSECONDS, now))

    def _take(self, message: RouterMessage, executions: ExecutionDriver, limit: asyncio.Timeout) -> None:
        for effect in self._session.receive(message, self._clock()):
            match effect:
                case AttachAccepted(renew_seconds=seconds):
                    limit.reschedule(None)
                    self._renew_later(seconds)
                    self.on_attached(seconds)
                case Reattach(grace=grace):
                    limit.reschedule(asyncio.get_running_loop().time() + grace)
                case _:
                    apply_effects((effect,), executions)

    async def _write(self, call: _Call) -> None:
        try:
            while True:
                await self._pending.wait()
                await self._pace.turn()
                self._pending.clear()
                requests = codec.encode_requests(self._session.take())
                sent, self._sent = self._sent, None
                try:
                    for request in requests:
                        await call.write(request)
                finally:
                    _done(sent)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader sees the error, too, with its cause

    def _renew_later(self, seconds: float) -> None:
        """Renew all leases after `seconds`, and so on."""

        def renew() -> None:
            self._session.renew(self._clock())
            self._pending.set()
            self._renew_later(seconds)

        self._timer = asyncio.get_running_loop().call_later(until_tick(seconds), renew)


def _done(sent: asyncio.Future[None] | None) -> None:
    if sent is not None and not sent.done():
        sent.set_result(None)


def is_write_failure(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC generated this status for a failed write, before it read the real status of the stream."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == FAILED_WRITE
