"""Executions between two states, while the transition is being stored: ending, returning or parking.

An execution is in at most one of the three. Until its transition is durable it may count against its flow's
concurrency: another execution takes its slot only afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

from router.scheduling.queues import FlowQueue

# the flow of an execution that is ending, and whether it still counts against its flow's concurrency
EndingExecution = tuple[FlowQueue, bool]


class ReturningExecution(NamedTuple):
    """An execution that is returning."""

    queue: FlowQueue  # its flow
    counted: bool  # whether it still counts against its flow's concurrency
    to_back: bool  # whether it is queued behind its flow's other ready executions instead of before them


class PendingTransitions:
    """The executions of a shard that are ending, returning or parking."""

    def __init__(self) -> None:
        self._ending: dict[int, EndingExecution] = {}
        self._returning: dict[int, ReturningExecution] = {}
        self._parking: dict[int, FlowQueue] = {}

    def end(self, seq: int, queue: FlowQueue, *, counted: bool) -> None:
        """Add an execution that is ending."""
        self._ending[seq] = queue, counted

    def requeue(self, seq: int, queue: FlowQueue, *, counted: bool, to_back: bool = False) -> None:
        """Add an execution that is returning to its flow's queue."""
        self._returning[seq] = ReturningExecution(queue, counted, to_back)

    def park(self, seq: int, queue: FlowQueue) -> None:
        """Add an execution that is parking; it counts."""
        self._parking[seq] = queue

    def end_returning(self, seq: int) -> bool:
        """Make a returning execution an ending one; false when it is not returning."""
        # its requeueing may be on its way to storage: the end follows it there, in order
        returning = self._returning.pop(seq, None)
        if returning is not None:
            self._ending[seq] = returning.queue, returning.counted
        return returning is not None

    def ended(self, seq: int) -> EndingExecution:
        """Remove and return an execution that is ending; raises KeyError if it is not."""
        return self._ending.pop(seq)

    def requeued(self, seq: int) -> ReturningExecution | None:
        """Remove and return an execution that is returning; None when it is not."""
        return self._returning.pop(seq, None)

    def parked(self, seq: int) -> FlowQueue | None:
        """Remove an execution that is parking and return its queue; None when it is not parking."""
        return self._parking.pop(seq, None)

    def withdraw(self, seq: int) -> FlowQueue | None:
        """Remove an execution that is returning or parking and return its queue; None when it is neither."""
        returning = self._returning.pop(seq, None)
        return self._parking.pop(seq, None) if returning is None else returning.queue

    @property
    def ending(self) -> int:
        """Number of executions that are ending."""
        return len(self._ending)

    @property
    def parking(self) -> int:
        """Number of executions that are parking."""
        return len(self._parking)

    def is_ending(self, seq: int) -> bool:
        """Whether an execution is ending."""
        return seq in self._ending

    def is_returning(self, seq: int) -> bool:
        """Whether an execution is returning."""
        return seq in self._returning

    def is_parking(self, seq: int) -> bool:
        """Whether an execution is parking."""
        return seq in self._parking

    def is_changing(self, seq: int) -> bool:
        """Whether a change of an execution other than its end is being stored: it is returning or parking."""
        return seq in self._returning or seq in self._parking

    def is_stopping(self, seq: int) -> bool:
        """Whether an execution is ending that was running until then."""
        ending = self._ending.get(seq)
        return ending is not None and ending[1]

    def is_counted(self, seq: int) -> bool:
        """Whether an execution is parking, or returning and still counts against its flow's concurrency."""
        returning = self._returning.get(seq)
        return seq in self._parking or (returning is not None and returning.counted)
