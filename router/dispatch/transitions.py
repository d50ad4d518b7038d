"""State transitions of executions (end, park, requeue, delivery): stored first, then published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from flowhook import limits
from flowhook.model import ERROR_TYPE_BASE, Status, WorkflowError
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.live_delivery import LiveDelivery
from router.dispatch.observers import ExecutionWatchers, ReplyWaiters
from router.metrics import RouterMetrics
from router.scheduling.changes import AttemptsExhausted, Loss, RequeuePending
from router.scheduling.shard import Shard
from router.storage import model as stored

WRITE_BYTES: Final = 16 * limits.MIB
"""Bytes of journal entries delivered in one write; storage limits the size of a write."""


def runtime_error(detail: str) -> WorkflowError:
    """Return an error that the flow did not cause."""
    return WorkflowError(type=f"{ERROR_TYPE_BASE}runtime", status=500, title="Runtime error", detail=detail)


def attempts_exhausted(attempts: int) -> WorkflowError:
    """Return the error of an execution that used up its attempts."""
    return runtime_error(f"given up after {attempts} attempts, each of which ended with its runner or lost its lease")


@dataclass(frozen=True, slots=True)
class TransitionBatch:
    """State transitions of some executions, one for each; `journaled` and `consumed` are stored in the same write."""

    journaled: Sequence[stored.StateChange] = ()
    ends: Sequence[stored.Ended] = ()
    losses: Sequence[Loss] = ()
    parks: Sequence[stored.Parked] = ()
    delivered: Sequence[stored.Delivered] = ()
    consumed: Sequence[stored.Consumed] = ()


class SideEffects(NamedTuple):
    """Changes to store together with ends of executions.

    `ends` are the given ones, and those of waiting executions that fault because their journal is full.
    """

    delivered: list[stored.Delivered]
    consumed: list[stored.Consumed]
    ends: list[stored.Ended]


class CompletionListener(Protocol):
    """Delivers ends of executions to those that wait for them."""

    @property
    def is_needed(self) -> bool:
        """Whether any execution may be affected by the end of another."""
        ...

    async def side_effects(self, ends: Sequence[stored.Ended]) -> SideEffects:
        """Return the changes to store together with ends."""
        ...

    def told(self, ends: Sequence[stored.Ended]) -> None:
        """Offer ends that are durable to executions that listen while they run."""
        ...


class TransitionWriter:
    """Stores state transitions, then applies them to the core: ended executions go, others wait or run again."""

    def __init__(
        self,
        *,
        core: Shard,
        durable: RetryingWriter,
        metrics: RouterMetrics,
        ends: CompletionListener,
        offers: LiveDelivery,
        waiters: ReplyWaiters,
        watchers: ExecutionWatchers,
        now_ms: Callable[[], int],
        wait: Callable[[Sequence[stored.Parked]], None],
        wake: Callable[[], None],
    ) -> None:
        """Store and apply transitions.

        Args:
            core: the scheduling core.
            durable: retrying writer.
            metrics: counters.
            ends: delivers ends to executions that wait for them.
            offers: events and ends offered to running executions.
            waiters: callers that wait for replies or ends.
            watchers: watchers of changes.
            now_ms: Unix time in ms.
            wait: called with executions that are stored as parked, to park them in the core.
            wake: schedules a dispatch.
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

    async def apply(self, conclusion: TransitionBatch) -> None:
        """Store transitions, then apply and publish them."""
        if self._offers:
            for each in (*conclusion.ends, *conclusion.losses, *conclusion.parks):
                self._offers.leave(each.seq)
        now_ms = self._now_ms()
        requeued = [loss for loss in conclusion.losses if isinstance(loss, RequeuePending)]
        exhausted = [
            stored.Ended(loss.seq, Status.FAULTED, now_ms, loss.attempts, error=attempts_exhausted(loss.attempts))
            for loss in conclusion.losses
            if isinstance(loss, AttemptsExhausted)
        ]
        ends = [*conclusion.ends, *exhausted]
        parks, delivered, consumed = conclusion.parks, conclusion.delivered, conclusion.consumed
        if self._ends.is_needed:
            told, dropped, ends = await self._ends.side_effects(ends)
            delivered, consumed = [*delivered, *told], [*consumed, *dropped]
        *early, last = _portions(delivered) if delivered else [()]
        for portion in early:
            await self._durable.write(portion)
        lost = [stored.Requeued(*loss, self._core.leases.term_of(loss.seq)) for loss in requeued]
        await self._durable.write([*conclusion.journaled, *ends, *parks, *lost, *last, *consumed])
        self.publish_replies(conclusion.journaled)
        for end in ends:
            self._core.ended(end.seq)
            self._metrics.ended(end.status)
            self._waiters.ended(end)
        if ends and self._ends.is_needed:
            self._ends.told(ends)
        for listener in self._end_listeners if ends else ():
            listener(ends)
        again: list[RequeuePending | stored.Delivered] = [*requeued, *delivered]
        self._core.requeued(each.seq for each in again)
        self._metrics.delivered.inc(len(delivered))
        self._wait(parks)
        self._durable.tell()
        self._wake()
        concerned: Sequence[stored.Ended | stored.Parked | stored.Delivered | RequeuePending] = [*ends, *parks, *again]
        self._watchers.changed(each.seq for each in concerned)

    def on_completion(self, listener: Callable[[Sequence[stored.Ended]], None]) -> None:
        """Register `listener` to be called with executions that ended, once that is durable."""
        self._end_listeners.append(listener)

    def publish_replies(self, changes: Sequence[stored.StateChange]) -> None:
        """Notify callers that wait for the replies among `changes`, which must be durable."""
        for change in changes:
            if isinstance(change, stored.Replied):
                self._waiters.replied(change)


def _portions(delivered: Sequence[stored.Delivered]) -> Iterator[list[stored.Delivered]]:
    """Yield deliveries in portions of about `WRITE_BYTES`. None takes effect before the last portion is stored."""
    portion: list[stored.Delivered] = []
    size = 0
    for each in delivered:
        portion.append(each)
        size += len(each.entry.output or b"")
        if size > WRITE_BYTES:
            yield portion
            portion, size = [], 0
    yield portion
