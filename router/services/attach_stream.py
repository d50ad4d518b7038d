"""The two directions of the Attach stream of one runner: sends queued messages, and stores reports durably, in order.

Messages queued during a write are sent together, and reports read while storage writes are stored in one batch, so
that both grow with the load and no report waits in the stream behind another's write. Back-pressure: while a runner
has sent more than could be stored, its stream is not read further.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

import attrs
from typing_extensions import override

from flowhook.attach import codec
from flowhook.attach.limits import protocol_violation
from flowhook.attach.messages import Assignment, DestinationUpdate, EventDelivery
from flowhook.attach.send_pacing import SendPacer
from flowhook.errors import ExhaustedError, FlowhookError
from router.dispatch.runners import RunnerPort
from router.dispatch.shard_runtime import ShardRuntime
from router.session import AddCredit, CountCalls, Effect, RenewLeases, RunnerSession, StoreReports, Subscribe


@attrs.define(eq=False, repr=False)
class AttachWriter(RunnerPort):
    """One attached runner, as the shard runtime uses it: sends what its session has to send."""

    _session: RunnerSession  # state of the stream, after the runner's hello
    _on_room: Callable[[], None] = lambda: None  # called when the queue is no longer `full`
    # returns the number of executions the runner works on
    _under_way: Callable[[], int] = attrs.field(default=lambda: 0, kw_only=True)
    # Unix time in ms of the clock that ends waits; the runner tells the time by it
    _now_ms: Callable[[], int] = attrs.field(kw_only=True)
    _pace: SendPacer = attrs.field(init=False)
    _room: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ending: bool = attrs.field(init=False, default=False)
    error: FlowhookError | None = attrs.field(init=False, default=None)
    closed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    # set when everything the runner sent is stored, and its stream has ended
    gone: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self._pace = SendPacer(self._under_way)
        self._room.set()

    @property
    @override
    def runner_id(self) -> str:
        return self._session.runner_id

    @property
    @override
    def full(self) -> bool:
        return self._session.outgoing.full

    @override
    async def room(self) -> None:
        await self._room.wait()

    @override
    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None:
        self._session.outgoing.assign(deliveries)
        self._wake(urgent=urgent)

    @override
    def hand_over(self, delivery: EventDelivery, *, urgent: bool = False) -> None:
        self._session.outgoing.deliver(delivery)
        self._wake(urgent=urgent)

    @override
    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        self._session.outgoing.acknowledge(token, position, number)
        self._wake(urgent=urgent)

    @override
    def want(self, types: Collection[str]) -> None:
        self._session.outgoing.want(types)
        self._wake(urgent=False)

    @override
    def update_destinations(self, updates: Iterable[DestinationUpdate]) -> None:
        self._session.outgoing.update_destinations(updates)
        self._wake(urgent=True)

    @override
    def settle(self, tokens: Sequence[bytes]) -> None:
        self._session.outgoing.settle(tokens)
        self._wake(urgent=False)

    @override
    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        if not self._session.outgoing.revoke(tokens, reason):
            self.close(ExhaustedError("the runner does not read its messages", reason="RUNNER_DEAF"))
        self._wake(urgent=False)

    def renewed(self, stamp: int) -> None:
        """Report that leases are renewed as of `stamp`, a time of the runner's own clock."""
        self._session.outgoing.renewed(stamp)
        self._wake(urgent=True)

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._session.outgoing.drain(grace)
        self._wake(urgent=True)

    @override
    def close(self, error: FlowhookError) -> None:
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
        self._session.outgoing.sent()
        if was_full and not self.full:
            self._room.set()
            self._on_room()

    def _wake(self, *, urgent: bool) -> None:
        if self.full and not self._ending:  # while ending, there will be no more room
            self._room.clear()
        if urgent:
            self._pace.expedite()
        self._woken.set()


@attrs.define(eq=False, repr=False)
class AttachReader:
    """Processes the messages of one attached runner: stores what it reports, through the shard runtime."""

    _runtime: ShardRuntime
    _writer: AttachWriter
    _session: RunnerSession
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _room: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ending: bool = attrs.field(init=False, default=False)

    async def read(self, requests: AsyncIterator[codec.Request]) -> None:
        """Process the messages of the stream; InvalidError: the runner violates the protocol."""
        async for request in requests:
            await self.put(request)

    async def put(self, request: codec.Request) -> None:
        """Process a message from the stream; wait while too much is not stored yet."""
        for message, size in codec.decode_request(request):
            for effect in self._session.receive(message, size):
                self._apply(effect)
        if self._session.reports:
            self._woken.set()
        while self._session.reports.full:
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
            case CountCalls(reports=reports):
                self._runtime.outages.report(reports)

    def end(self) -> None:
        """Let `record` return once all reports are stored."""
        self._ending = True
        self._woken.set()

    async def record(self) -> None:
        """Store reports until `end` is called and there are none left."""
        reports = self._session.reports
        while reports or not self._ending:
            await self._woken.wait()
            self._woken.clear()
            while reports:
                for effect in reports.take():
                    if self._runtime.is_superseded(self._writer):
                        continue  # the runner sends all of it again on its new stream
                    match effect:
                        case StoreReports():
                            await self._store(effect)
                        case Subscribe(update=update):
                            self._runtime.listen(self._writer, update)
                reports.stored()
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
