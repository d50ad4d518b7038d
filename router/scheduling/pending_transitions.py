"""Executions between two states, while the transition is being stored: ending, returning or parking.

An execution is in at most one of the three. Until its transition is durable it may count against its flow's
concurrency: another execution takes its slot only afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

from router.scheduling.queues import FlowQueue

# the flow of an execution that is ending, and whether it still counts against its flow's concurrency
EndingExecution = tuple[FlowQueue, bool]


class ReturningExecution(NamedTuple):
    """An execution that is returning."""

    queue: FlowQueue  # its flow
    counted: bool  # whether it still counts against its flow's concurrency
    to_back: bool = False  # whether it is queued behind its flow's other ready executions instead of before them


@attrs.define(eq=False, repr=False)
class PendingTransitions:
    """The executions of a shard that are ending, returning or parking (these count), by sequence number."""

    ending: dict[int, EndingExecution] = attrs.field(init=False, factory=dict)
    returning: dict[int, ReturningExecution] = attrs.field(init=False, factory=dict)
    parking: dict[int, FlowQueue] = attrs.field(init=False, factory=dict)

    def end_returning(self, seq: int) -> bool:
        # its requeueing may be on its way to storage: the end follows it there, in order
        returning = self.returning.pop(seq, None)
        if returning is not None:
            self.ending[seq] = returning.queue, returning.counted
        return returning is not None

    def withdraw(self, seq: int) -> FlowQueue | None:
        """Remove an execution that is returning or parking and return its queue; None when it is neither."""
        returning = self.returning.pop(seq, None)
        return self.parking.pop(seq, None) if returning is None else returning.queue

    def is_changing(self, seq: int) -> bool:
        """Whether a change of an execution other than its end is being stored: it is returning or parking."""
        return seq in self.returning or seq in self.parking

    def is_stopping(self, seq: int) -> bool:
        """Whether an execution is ending that was running until then."""
        ending = self.ending.get(seq)
        return ending is not None and ending[1]

    def is_counted(self, seq: int) -> bool:
        """Whether an execution is parking, or returning and still counts against its flow's concurrency."""
        returning = self.returning.get(seq)
        return seq in self.parking or (returning is not None and returning.counted)
