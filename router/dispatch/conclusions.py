"""What becomes of executions: stored first, then told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from flowhook import limits
from flowhook.model import ERROR_TYPE_BASE, Status, WorkflowError
from router.dispatch.durable import Durable
from router.dispatch.observers import EndWaiters, ExecutionWatchers
from router.dispatch.offers import Offers
from router.metrics import RouterMetrics
from router.scheduling.changes import Exhausted, Loss, Requeued
from router.scheduling.shard import Shard
from router.storage import model as stored

WRITE_BYTES: Final = 16 * limits.MIB
"""Entries that are delivered in one write; storage takes only so much at a time."""


def runtime_error(detail: str) -> WorkflowError:
    """Return an error that is not the flow's."""
    return WorkflowError(type=f"{ERROR_TYPE_BASE}runtime", status=500, title="Runtime error", detail=detail)


def attempts_exhausted(attempts: int) -> WorkflowError:
    """Return why an execution that kills its runners is faulted."""
    return runtime_error(f"given up after {attempts} attempts, each of which ended with its runner or lost its lease")


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What becomes of some executions, each in one of these ways; `journaled` and `consumed` go with it."""

    journaled: Sequence[stored.StateChange] = ()
    ends: Sequence[stored.Ended] = ()
    losses: Sequence[Loss] = ()
    parks: Sequence[stored.Parked] = ()
    delivered: Sequence[stored.Delivered] = ()
    consumed: Sequence[stored.Consumed] = ()


class Consequences(NamedTuple):
    """What is to be stored with ends, and the `ends` with those of executions that can't be told of one."""

    delivered: list[stored.Delivered]
    consumed: list[stored.Consumed]
    ends: list[stored.Ended]


class Telling(Protocol):
    """Tells what ends of executions mean to others."""

    @property
    def matter(self) -> bool:
        """Whether any end may mean anything to anybody."""
        ...

    async def consequences(self, ends: Sequence[stored.Ended]) -> Consequences:
        """Return what is to be stored with ends."""
        ...

    def told(self, ends: Sequence[stored.Ended]) -> None:
        """Tell of ends that are stored."""
        ...


class Conclusions:
    """Stores what became of executions, then lets go of what ended, and lets wait or run again what did not."""

    def __init__(
        self,
        *,
        core: Shard,
        durable: Durable,
        metrics: RouterMetrics,
        ends: Telling,
        offers: Offers,
        waiters: EndWaiters,
        watchers: ExecutionWatchers,
        now_ms: Callable[[], int],
        wait: Callable[[Sequence[stored.Parked]], None],
        wake: Callable[[], None],
    ) -> None:
        """Conclude.

        Args:
            core: what runs.
            durable: writes.
            metrics: what is counted.
            ends: tells what ends mean to others.
            offers: to executions while they are worked on.
            waiters: who wait for answers.
            watchers: who watch changes.
            now_ms: Unix time.
            wait: has executions wait that are on record as parked.
            wake: has others run soon.
        """
        self._core = core
        self._durable = durable
        self._metrics = metrics
        self._ends = ends
        self._offers = offers
        self._end_listeners: list[Callable[[Sequence[stored.Ended]], None]] = []
        self._waiters = waiters
        self._watchers = watchers
        self._now_ms = now_ms
        self._wait = wait
        self._wake = wake

    async def conclude(self, conclusion: Conclusion) -> None:
        """Store a conclusion, then act upon it."""
        if self._offers:
            for each in (*conclusion.ends, *conclusion.losses, *conclusion.parks):
                self._offers.leave(each.seq)
        now_ms = self._now_ms()
        requeued = [loss for loss in conclusion.losses if isinstance(loss, Requeued)]
        exhausted = [
            stored.Ended(loss.seq, Status.FAULTED, now_ms, loss.attempts, error=attempts_exhausted(loss.attempts))
            for loss in conclusion.losses
            if isinstance(loss, Exhausted)
        ]
        ends = [*conclusion.ends, *exhausted]
        parks, delivered, consumed = conclusion.parks, conclusion.delivered, conclusion.consumed
        if self._ends.matter:
            told, dropped, ends = await self._ends.consequences(ends)
            delivered, consumed = [*delivered, *told], [*consumed, *dropped]
        *early, last = _portions(delivered) if delivered else [()]
        for portion in early:
            await self._durable.write(portion)
        lost = [stored.Requeued(*loss, self._core.term_of(loss.seq)) for loss in requeued]
        await self._durable.write([*conclusion.journaled, *ends, *parks, *lost, *last, *consumed])
        self.pass_on_replies(conclusion.journaled)
        for end in ends:
            self._core.ended(end.seq)
            self._metrics.ended(end.status)
            self._waiters.ended(end)
        if ends and self._ends.matter:
            self._ends.told(ends)
        for listener in self._end_listeners if ends else ():
            listener(ends)
        again: list[Requeued | stored.Delivered] = [*requeued, *delivered]
        self._core.requeued(each.seq for each in again)
        self._metrics.delivered.inc(len(delivered))
        self._wait(parks)
        self._durable.tell()
        self._wake()
        concerned: Sequence[stored.Ended | stored.Parked | stored.Delivered | Requeued] = [*ends, *parks, *again]
        self._watchers.changed(each.seq for each in concerned)

    def follow_ends(self, listener: Callable[[Sequence[stored.Ended]], None]) -> None:
        """Have `listener` called with executions that ended, once that is durable."""
        self._end_listeners.append(listener)

    def pass_on_replies(self, changes: Sequence[stored.StateChange]) -> None:
        """Tell those who wait for a reply, once it is durable."""
        for change in changes:
            if isinstance(change, stored.Replied):
                self._waiters.replied(change)


def _portions(delivered: Sequence[stored.Delivered]) -> Iterator[list[stored.Delivered]]:
    """Yield what is delivered in portions of some `WRITE_BYTES`. Until the last one is stored none is acted upon."""
    portion: list[stored.Delivered] = []
    size = 0
    for each in delivered:
        portion.append(each)
        size += len(each.entry.output or b"")
        if size > WRITE_BYTES:
            yield portion
            portion, size = [], 0
    yield portion
