"""Delivers the ends of executions to the executions that wait for them.

The outcome is appended to the journal of a parked execution in the same write that stores the end. `completion_waits`
delivers ends that were stored before an execution began to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from flowhook.model import JournalEntry, Status, WorkflowError
from router.dispatch.faults import runtime_error
from router.dispatch.waiting.live_delivery import LiveDelivery
from router.dispatch.waiting.parked_delivery import ParkedDelivery, Unparked
from router.scheduling.event_buffer import EventBuffer
from router.scheduling.subscriptions import EventReceiver, Subscriptions
from router.storage.model import Consumed, Delivered, Ended


class ChildResult(NamedTuple):
    """Outcome of an execution, for one that waits for its end; exactly one of the two is set."""

    output: bytes | None
    error: WorkflowError | None

    @classmethod
    def of(cls, status: Status, output: bytes | None, error: WorkflowError | None) -> ChildResult:
        """Return the outcome of an execution that ended."""
        if status is Status.COMPLETED:
            return cls(b"null" if output is None else output, None)
        return cls(None, error or runtime_error("the execution that it waits for was cancelled"))

    def delivered(self, parent: Unparked) -> Delivered:
        """Return the change that adds the outcome to the journal of an execution that waited for it."""
        return Delivered(parent.seq, JournalEntry(parent.key, *self), parent.attempts)


class SideEffects(NamedTuple):
    """Changes to store together with ends of executions.

    `ends` are the given ones, and those of waiting executions that fault because their journal is full.
    """

    delivered: list[Delivered]
    consumed: list[Consumed]
    ends: list[Ended]


@attrs.define(eq=False, repr=False, kw_only=True)
class ChildCompletions:
    """Delivers ends that are being stored."""

    _subscriptions: Subscriptions
    _buffer: EventBuffer
    _parked: ParkedDelivery
    _live: LiveDelivery

    @property
    def is_needed(self) -> bool:
        """Whether an execution waits for an end, or an event is buffered for a certain execution."""
        return bool(self._subscriptions.ends_awaited or self._buffer.addressed)

    async def side_effects(self, ends: Sequence[Ended]) -> SideEffects:
        """Unpark executions that wait for those that are ending, and drop events buffered for the latter."""
        result = SideEffects([], [], list(ends))
        for end in result.ends:  # the list grows during the loop
            result.consumed.extend(Consumed(number) for number in self._buffer.ended(end.seq))
            taken = self._parked.take(self._subscriptions.end_receivers(end.seq))
            if taken:
                fitting = await self._parked.check_room(taken)
                outcome = ChildResult.of(end.status, end.output, end.error)
                result.delivered.extend(map(outcome.delivered, fitting.taken))
                result.ends.extend(fitting.ends)
        return result

    def publish(self, ends: Sequence[Ended]) -> None:
        """Offer ends that are now durable to the executions that wait for them while they run."""
        for end in ends:
            for receiver in self._subscriptions.end_receivers(end.seq):
                self.offer(receiver, ChildResult.of(end.status, end.output, end.error))

    def offer(self, receiver: EventReceiver, outcome: ChildResult) -> None:
        """Offer the outcome of an execution to one that waits for it while it runs."""
        offer = self._live.offer(receiver, None)
        if offer is not None:
            self._live.hand_over(offer, *outcome)
