"""Hands events to the router in batches that form by themselves: what arrives while calls are in flight goes together.

A call that fails for want of a router is made again with the same events: ingest is idempotent by event ID, so a
router that restarts is not noticed by senders whose deadline allows for it. An event whose fate is still unknown at
its deadline is reported as unavailable; the sender tries again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from edge.metrics import Counts
from edge.refusals import LimitedLog
from edge.router import Router
from flowhook import limits
from flowhook.errors import ConflictError, FlowhookError, InternalError, InvalidError, UnavailableError
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import IngestResult

DEPTH: Final = 2
"""Calls in flight: while one waits for the disk, the next one is on its way."""

RETRY_SECONDS: Final = 0.05
MAX_RETRY_SECONDS: Final = 0.5

EXPIRY_SECONDS: Final = 0.25
"""How often waiting events are checked for their deadline."""

MAX_PENDING_BYTES: Final = 256 * limits.MIB
"""Bodies that wait for the router."""

_OVERHEAD: Final = 512
"""What is reckoned for an event beside its body and headers."""

_AGAIN: Final = (UnavailableError, ConflictError, InternalError)
"""Failures of a call that may be over when it is made again."""


class IngestUnavailableError(Exception):
    """Nobody can say whether the event is stored: the router is away, overloaded or talks nonsense."""


class _Pending(NamedTuple):
    event: Event
    size: int
    deadline: float
    result: asyncio.Future[IngestResult]


class Ingest:
    """The way to the router. `run` must be running for anything to be sent."""

    def __init__(self, router: Router, counts: Counts, log: LimitedLog, *, timeout: float, max_pending: int) -> None:
        """Let an event wait for `timeout` seconds at most, and `max_pending` of them at a time."""
        self._router = router
        self._log = log
        self._counts = counts
        self._timeout = timeout
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Pending] = deque()
        self._sending: list[list[_Pending]] = []
        self._idle: list[asyncio.Future[None]] = []
        self.pending = 0
        self._pending_bytes = 0

    async def submit(self, event: Event, size: int) -> IngestResult:
        """Have an event stored and return the router's word on it.

        Args:
            event: not to be changed any more.
            size: bytes it has at most, serialized; `_OVERHEAD` aside.

        Raises:
            IngestUnavailableError: its fate is unknown, or too much is waiting already.
        """
        size += _OVERHEAD
        if self.pending >= self._max_pending or (self.pending and self._pending_bytes + size > MAX_PENDING_BYTES):
            raise IngestUnavailableError
        start = self._loop.time()
        result: asyncio.Future[IngestResult] = self._loop.create_future()
        self.pending += 1
        self._pending_bytes += size
        self._queue.append(_Pending(event, size, start + self._timeout, result))
        if self._idle:
            self._idle.pop().set_result(None)
        try:
            return await result
        finally:
            self.pending -= 1
            self._pending_bytes -= size
            self._counts.latency.observe(self._loop.time() - start)

    async def run(self) -> None:
        """Send what is submitted, until cancelled; what waits then is given up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._expire(), name="expire events")
                for _ in range(DEPTH):
                    tasks.create_task(self._send_batches(), name="send events")
        finally:
            self._max_pending = 0
            _give_up(self._queue)

    async def _send_batches(self) -> None:
        while True:
            while not self._queue:
                # Woken at the end of a loop's turn: what else the turn brings is in the same batch.
                idle: asyncio.Future[None] = self._loop.create_future()
                self._idle.append(idle)
                await idle
            batch = self._take()
            if batch:
                await self._send(batch)

    def _take(self) -> list[_Pending]:
        queue = self._queue
        batch: list[_Pending] = []
        size = 0
        while queue and len(batch) < limits.MAX_BATCH_EVENTS:
            size += queue[0].size
            if batch and size > limits.MAX_BATCH_BYTES:
                break
            pending = queue.popleft()
            if not pending.result.done():
                batch.append(pending)
        return batch

    async def _send(self, batch: list[_Pending]) -> None:
        """Send a batch until there is an answer, or nobody waits for one any more."""
        pause = RETRY_SECONDS
        self._sending.append(batch)
        try:
            while batch:
                self._counts.batches.observe(len(batch))
                seconds = max(0.001, batch[-1].deadline - self._loop.time())
                try:
                    results = await self._router.ingest([pending.event for pending in batch], seconds)
                except _AGAIN:
                    self._counts.retries += 1
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, MAX_RETRY_SECONDS)
                    now = self._loop.time()
                    _give_up(pending for pending in batch if pending.deadline <= now)
                    batch[:] = [pending for pending in batch if not pending.result.done()]
                    continue
                _settle(batch, results)
                return
        except FlowhookError as error:
            # a defect, or a token that is not valid: no repetition would help
            self._log.warning("router refused a batch", reason=error.reason, detail=error.message)
        finally:
            _give_up(batch)
            self._sending = [other for other in self._sending if other is not batch]

    async def _expire(self) -> None:
        """Give up events at their deadline, queued or on their way; all wait equally long, so the first ends first."""
        queue = self._queue
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            now = self._loop.time()
            while queue and (queue[0].deadline <= now or queue[0].result.done()):
                _give_up([queue.popleft()])
            for batch in self._sending:
                _give_up(pending for pending in batch if pending.deadline <= now)


def _settle(batch: Sequence[_Pending], results: Sequence[IngestResult]) -> None:
    if len(results) != len(batch):
        raise InvalidError("another number of results than events", reason="RESULTS_MISMATCH")
    for pending, result in zip(batch, results, strict=True):
        if not pending.result.done():
            pending.result.set_result(result)


def _give_up(batch: Iterable[_Pending]) -> None:
    for pending in batch:
        if not pending.result.done():
            pending.result.set_exception(IngestUnavailableError())
