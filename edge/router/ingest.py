"""Sends events to the router in batches: events that arrive while calls are in flight form the next batch.

A batch is sent at once while none is in flight, or one of few events; else when it is large enough, or when the result
of the other one is there. After the result of a large batch, the next one is held for a moment, until it is half as
large. So an event is not delayed where events are few, and batches grow with the load.

A call that fails because the router is unavailable is retried with the same events, and so are events that a router was
storing when another took over. Ingest is idempotent by event ID, so senders whose deadline is long enough do not notice
a restart of the router. An event whose outcome is unknown at its deadline is reported as unavailable; the sender
retries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import attrs

from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient
from edge.webhook.log_limiter import RateLimitedLogger
from flowhook import limits
from flowhook.client.router_errors import TAKEOVER
from flowhook.errors import ConflictError, FlowhookError, InternalError, InvalidError, UnavailableError
from flowhook.retrying import CALL
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import IngestResult

DEPTH: Final = 2  # concurrent calls: while one waits for the disk, the next one is being transmitted
# Events, or bytes, for which a batch is sent although another one is in flight, or the last result is quite new.
# Messages cost some 250 µs of CPU time in edge and router together, whatever their size. At 64 connections, batches of
# 21 events cost 100 µs an event in all; of 38, with what is below, 77 µs, at a higher rate and the same latency.
ENOUGH_EVENTS: Final = 32
ENOUGH_BYTES: Final = 256 * limits.KIB
FEW_EVENTS: Final = 2  # of a batch in flight, beside which the next one is sent at once
HOLD_SECONDS: Final = 0.001  # after a result, for which the next batch waits until it has half as many events
EXPIRY_SECONDS: Final = 0.25  # how often waiting events are checked for their deadline
MAX_PENDING_BYTES: Final = 256 * limits.MIB  # bytes of events that may wait for the router
_OVERHEAD: Final = 512  # bytes added to the size of an event for what is neither body nor header
# Failures of a call that are retried, because they may be temporary.
_AGAIN: Final = (UnavailableError, ConflictError, InternalError)


class IngestUnavailableError(Exception):
    """It is unknown whether the event is stored: the router is unreachable, overloaded, or its response is invalid."""


class _Pending(NamedTuple):
    event: Event
    size: int
    deadline: float
    result: asyncio.Future[IngestResult]


@attrs.define(eq=False, repr=False)
class IngestBatcher:
    """Batches events while `run` runs; each waits at most `timeout` seconds, and at most `max_pending` at a time."""

    _router: RouterClient
    _metrics: EdgeMetrics
    _logger: RateLimitedLogger
    _timeout: float = attrs.field(kw_only=True)
    _max_pending: int = attrs.field(kw_only=True)
    _enough_events: int = attrs.field(kw_only=True, default=ENOUGH_EVENTS)
    pending: int = attrs.field(init=False, default=0)
    _pending_bytes: int = attrs.field(init=False, default=0)
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False, factory=asyncio.get_running_loop)
    _queue: deque[_Pending] = attrs.field(init=False, factory=deque)
    _queued_bytes: int = attrs.field(init=False, default=0)
    _wanted: int = attrs.field(init=False, default=0)  # events that a batch has to have now, if none is in flight
    _held: asyncio.TimerHandle | None = attrs.field(init=False, default=None)  # ends that
    _expiry: asyncio.TimerHandle | None = attrs.field(init=False, default=None)  # while there are events
    _sending: list[list[_Pending]] = attrs.field(init=False, factory=list)
    _pausing: int = attrs.field(init=False, default=0)  # of those: batches that are not in flight, but sent again later
    _idle: list[asyncio.Future[None]] = attrs.field(init=False, factory=list)

    async def submit(self, event: Event, size: int) -> IngestResult:
        """Store an event, not to be changed afterwards, and return the router's result.

        `size` is an upper bound of its serialized size in bytes, not counting `_OVERHEAD`. IngestUnavailableError: the
        outcome is unknown, or too many events are waiting already.
        """
        size += _OVERHEAD
        if self.pending >= self._max_pending or (self.pending and self._pending_bytes + size > MAX_PENDING_BYTES):
            raise IngestUnavailableError
        start = self._loop.time()
        result: asyncio.Future[IngestResult] = self._loop.create_future()
        self.pending += 1
        self._pending_bytes += size
        self._queued_bytes += size
        self._queue.append(_Pending(event, size, start + self._timeout, result))
        self._wake()
        if self._expiry is None:
            self._expiry = self._loop.call_later(EXPIRY_SECONDS, self._expire)
        try:
            return await result
        finally:
            self.pending -= 1
            self._pending_bytes -= size
            self._metrics.latency.observe(self._loop.time() - start)

    async def run(self) -> None:
        """Send submitted events until cancelled; events that are still queued then fail."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(DEPTH):
                    tasks.create_task(self._send_batches(), name="send events")
        finally:
            self._max_pending = 0
            self._hold(0)
            if self._expiry is not None:
                self._expiry.cancel()
            _give_up(self._queue)

    async def _send_batches(self) -> None:
        while True:
            # Woken at the end of a turn of the loop, so that all events of the turn are in the same batch.
            idle: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(idle)
            self._wake()
            await idle
            batch = self._dequeue()
            if batch:
                sent = len(batch)
                await self._send(batch)
                self._hold(sent // 2)

    def _wake(self) -> None:
        """Let a batch be sent if it is time, and one can be."""
        if not self._idle:
            return
        queued = len(self._queue)
        enough = queued >= self._enough_events or self._queued_bytes >= ENOUGH_BYTES
        if len(self._idle) == DEPTH:
            enough = enough or queued >= self._wanted
        elif self._sending:
            enough = enough or self._pausing > 0 or len(self._sending[0]) <= FEW_EVENTS
        if queued and enough:
            idle = self._idle.pop()
            if not idle.done():  # as it is when `run` was cancelled
                idle.set_result(None)

    def _hold(self, wanted: int) -> None:
        if self._held is not None:
            self._held.cancel()
        self._wanted = wanted
        self._held = self._loop.call_later(HOLD_SECONDS, self._end_hold) if wanted > 1 else None

    def _end_hold(self) -> None:
        self._wanted, self._held = 0, None
        self._wake()

    def _dequeue(self) -> list[_Pending]:
        queue = self._queue
        batch: list[_Pending] = []
        size = 0
        while queue and len(batch) < limits.MAX_BATCH_EVENTS:
            size += queue[0].size
            if batch and size > limits.MAX_BATCH_BYTES:
                break
            pending = queue.popleft()
            self._queued_bytes -= pending.size
            if not pending.result.done():
                batch.append(pending)
        return batch

    async def _send(self, batch: list[_Pending]) -> None:
        pauses = CALL.pauses()
        self._sending.append(batch)
        try:
            while batch:
                self._metrics.batches.observe(len(batch))
                seconds = max(0.001, batch[-1].deadline - self._loop.time())
                with contextlib.suppress(*_AGAIN):
                    batch[:] = _settle(batch, await self._router.ingest([pending.event for pending in batch], seconds))
                if not batch:
                    return
                self._metrics.retries += 1
                await self._pause(next(pauses))
                now = self._loop.time()
                _give_up(pending for pending in batch if pending.deadline <= now)
                batch[:] = [pending for pending in batch if not pending.result.done()]
        except FlowhookError as error:
            # a defect, or an invalid token: a retry would not help
            self._logger.warning("router refused a batch", reason=error.reason, detail=error.message)
        finally:
            _give_up(batch)
            self._sending = [other for other in self._sending if other is not batch]

    async def _pause(self, seconds: float) -> None:
        self._pausing += 1
        try:
            self._wake()
            await asyncio.sleep(seconds)
        finally:
            self._pausing -= 1

    def _expire(self) -> None:
        """Fail events at their deadline, queued or in flight. All wait equally long, so the queue is in that order."""
        queue, now = self._queue, self._loop.time()
        while queue and (queue[0].deadline <= now or queue[0].result.done()):
            self._queued_bytes -= queue[0].size
            _give_up([queue.popleft()])
        for batch in self._sending:
            _give_up(pending for pending in batch if pending.deadline <= now)
        self._expiry = self._loop.call_later(EXPIRY_SECONDS, self._expire) if self.pending else None


def _settle(batch: Sequence[_Pending], results: Sequence[IngestResult]) -> list[_Pending]:
    """Report results; return the events that the router was storing when it lost the shard: they have none yet."""
    if len(results) != len(batch):
        raise InvalidError("another number of results than events", reason="RESULTS_MISMATCH")
    unresolved = []
    for pending, result in zip(batch, results, strict=True):
        if result.HasField("rejected") and result.rejected.reason in TAKEOVER:
            unresolved.append(pending)
        elif not pending.result.done():
            pending.result.set_result(result)
    return unresolved


def _give_up(batch: Iterable[_Pending]) -> None:
    for pending in batch:
        if not pending.result.done():
            pending.result.set_exception(IngestUnavailableError())
