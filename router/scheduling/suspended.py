"""Executions that an operator suspended, by sequence number; their flows' queues count them."""

from __future__ import annotations

from router.scheduling.queues import FlowQueue


class SuspendedExecutions:
    """The suspended executions of a shard."""

    def __init__(self) -> None:
        self._queues: dict[int, FlowQueue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def __contains__(self, seq: int) -> bool:
        return seq in self._queues

    def add(self, seq: int, queue: FlowQueue) -> None:
        """Add an execution."""
        self._queues[seq] = queue
        queue.suspended += 1

    def pop(self, seq: int) -> FlowQueue | None:
        """Remove an execution and return its flow queue; None when it is not suspended."""
        queue = self._queues.pop(seq, None)
        if queue is not None:
            queue.suspended -= 1
        return queue
