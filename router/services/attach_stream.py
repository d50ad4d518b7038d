"""The two directions of the Attach stream of one runner: sends queued messages, and stores reports durably, in order.

Messages queued during a write are sent together, and reports read while storage writes are stored in one batch, so
that both grow with the load and no report waits in the stream behind another's write. Back-pressure: while a runner
has sent more than could be stored, its stream is not read further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from flowhook.attach import codec
from flowhook.attach.limits import protocol_violation
from flowhook.attach.messages import Assignment, EventDelivery
from flowhook.attach.send_pacing import SendPacer
from flowhook.errors import ExhaustedError, FlowhookError
from router.dispatch.shard_runtime import ShardRuntime
from router.session import AddCredit, Effect, RenewLeases, RunnerSession, StoreReports, Subscribe


class AttachWriter:
    """One attached runner, as the shard runtime uses it; implements `RunnerPort`."""

    def __init__(
        self,
        session: RunnerSession,
        on_room: Callable[[], None] = lambda: None,
        *,
        under_way: Callable[[], int] = lambda: 0,
        now_ms: Callable[[], int],
    ) -> None:
        """Send what `session` has to send.

        Args:
            session: the state of the stream, after the runner's hello.
            on_room: called when the queue is no longer `full`.
            under_way: returns the number of executions the runner works on.
            now_ms: Unix time in ms of the clock that ends waits; the runner tells the time by it.
        """
        self._session = session
        self._queue = session.outgoing
        self._pace = SendPacer(under_way)
        self._on_room = on_room
        self._now_ms = now_ms
        self._room = asyncio.Event()
        self._room.set()
        self._woken = asyncio.Event()
        self._ending = False
        self.error: FlowhookError | None = None
        self.closed = asyncio.Event()
        self.gone = asyncio.Event()  # set when everything the runner sent is stored, and its stream has ended

    @property
    def runner_id(self) -> str:
        """Unique among runners."""
        return self._session.runner_id

    @property
    def full(self) -> bool:
        """Whether so much is queued that no more work should be assigned for now."""
        return self._queue.full

    async def room(self) -> None:
        """Wait until the queue is not `full`, or is closed."""
        await self._room.wait()

    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None:
        """Queue assignments."""
        self._queue.assign(deliveries)
        self._fill()
        self._wake(urgent=urgent)

    def hand_over(self, delivery: EventDelivery, *, urgent: bool = False) -> None:
        """Queue the delivery of an event to a running execution."""
        self._queue.deliver(delivery)
        self._fill()
        self._wake(urgent=urgent)

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Acknowledge durable checkpoints of an execution: journal entries, and those without an entry."""
        self._queue.acknowledge(token, position, number)
        self._wake(urgent=urgent)

    def want(self, types: Collection[str]) -> None:
        """Queue the types of lifecycle events that have subscribers and that only runners can report."""
        self._queue.want(types)
        self._wake(urgent=False)

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge durable outcomes."""
        self._queue.settle(tokens)
        self._wake(urgent=False)

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Queue the revocation of leases."""
        if not self._queue.revoke(tokens, reason):
            self.close(ExhaustedError("the runner does not read its messages", reason="RUNNER_DEAF"))
        self._wake(urgent=False)

    def renewed(self, stamp: int) -> None:
        """Report that leases are renewed as of `stamp`, a time of the runner's own clock."""
        self._queue.renewed(stamp)
        self._wake(urgent=True)

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._queue.drain(grace)
        self._wake(urgent=True)

    def close(self, error: FlowhookError) -> None:
        """End the stream with an error once queued messages are sent."""
        self.error = self.error or error
        self.closed.set()
        self.end()

    def end(self) -> None:
        """End the stream once queued messages are sent."""
        self._ending = True
        self._room.set()
        self._wake(urgent=True)

    async def send(self, write: Callable[[codec.Response], Awaitable[None]]) -> None:
        """Send queued messages, until the end."""
        while True:
            await self._woken.wait()
            await self._pace.turn()
            self._woken.clear()
            await self.send_now(write)
            if self._ending and not self._woken.is_set():
                return

    async def send_now(self, write: Callable[[codec.Response], Awaitable[None]]) -> None:
        """Send what is queued now, without waiting for a turn."""
        for response in codec.encode_responses(self._session.take(), sent_ms=self._now_ms()):
            await write(response)
        was_full = self.full
        self._queue.sent()
        if was_full and not self.full:
            self._room.set()
            self._on_room()

    def _fill(self) -> None:
        """Make `room` wait when the queue is full; not while ending, as there will be no more room."""
        if self.full and not self._ending:
            self._room.clear()

    def _wake(self, *, urgent: bool) -> None:
        if urgent:
            self._pace.expedite()
        self._woken.set()


class AttachReader:
    """Processes the messages of one attached runner."""

    def __init__(self, runtime: ShardRuntime, writer: AttachWriter, session: RunnerSession) -> None:
        """Store what the runner behind `writer` reports through `runtime`."""
        self._runtime = runtime
        self._writer = writer
        self._session = session
        self._reports = session.reports
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False

    async def put(self, request: codec.Request) -> None:
        """Process a message from the stream; wait while too much is not stored yet.

        Raises:
            InvalidError: the runner violates the protocol.
        """
        for message, size in codec.decode_request(request):
            for effect in self._session.receive(message, size):
                self._apply(effect)
        if self._reports:
            self._woken.set()
        while self._reports.full:
            self._room.clear()
            await self._room.wait()

    def _apply(self, effect: Effect) -> None:
        match effect:
            case AddCredit(assignments=assignments):
                if not self._runtime.add_credit(self._writer, assignments):
                    raise protocol_violation("at most 4096 assignments of credit may be outstanding")
            case RenewLeases(stamp=stamp):
                if self._runtime.renew(self._writer):  # else its leases are lost, and the stream is about to end
                    self._writer.renewed(stamp)

    def end(self) -> None:
        """Let `record` return once all reports are stored."""
        self._ending = True
        self._woken.set()

    async def record(self) -> None:
        """Store reports until `end` is called and there are none left."""
        while self._reports or not self._ending:
            await self._woken.wait()
            self._woken.clear()
            while self._reports:
                for effect in self._reports.take():
                    if self._runtime.is_superseded(self._writer):
                        continue  # the runner sends all of it again on its new stream
                    match effect:
                        case StoreReports():
                            await self._store(effect)
                        case Subscribe(update=update):
                            self._runtime.listen(self._writer, update)
                self._reports.stored()
                self._room.set()

    async def _store(self, reports: StoreReports) -> None:
        recorder = self._runtime.recorder
        await asyncio.gather(
            *([recorder.checkpoint(self._writer, reports.checkpoints)] if reports.checkpoints else []),
            *([recorder.settle(self._writer, reports.outcomes)] if reports.outcomes else []),
        )
        # the stream may have been superseded meanwhile: then the checkpoints that these follow are not stored
        if reports.later_outcomes and not self._runtime.is_superseded(self._writer):
            await recorder.settle(self._writer, reports.later_outcomes)
