"""The timer queue: waiting executions by wake time.

Wake times are Unix milliseconds, because a flow waits for a wall-clock time, which stays the same across a restart.
Unlike the other times of the core they belong to a clock that can be set back or forward; it is read again each time,
so that only the current reading counts.
"""

from __future__ import annotations

import heapq
from typing import Final

from router.scheduling.queues import FlowQueue

MIN_STALE: Final = 1024
"""Stale entries the heap may hold, besides one for each waiting execution, before it is rebuilt."""

_Wait = tuple[int, int, FlowQueue]
"""Wake time, sequence number, flow. A heap entry is current while it is the identical object in the table."""

NEVER: Final = -1
"""Wake time of an execution that no timer wakes; it is not in the heap."""


class TimerQueue:
    """Waiting executions by sequence number, about 200 bytes each; their flows' queues count them."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}
        self._heap: list[_Wait] = []

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, seq: int) -> bool:
        return seq in self._waits

    def add(self, seq: int, queue: FlowQueue, wake_at_ms: int | None) -> None:
        """Add an execution that waits until a time, or (None) until `pop` removes it."""
        wait = (NEVER if wake_at_ms is None else wake_at_ms, seq, queue)
        self._waits[seq] = wait
        queue.waiting += 1
        if wake_at_ms is not None:
            heapq.heappush(self._heap, wait)

    def get(self, seq: int) -> FlowQueue | None:
        """Return the flow queue of an execution; None when it does not wait."""
        wait = self._waits.get(seq)
        return None if wait is None else wait[2]

    def pop(self, seq: int) -> FlowQueue | None:
        """Remove an execution and return its flow queue; None when it does not wait."""
        wait = self._waits.pop(seq, None)
        if wait is None:
            return None
        wait[2].waiting -= 1
        if len(self._heap) > MIN_STALE + 2 * len(self._waits):
            self._heap = [wait for wait in self._waits.values() if wait[0] != NEVER]
            heapq.heapify(self._heap)
        return wait[2]

    def next(self) -> int | None:
        """Return the earliest wake time, or None."""
        heap = self._heap
        while heap:
            if self._waits.get(heap[0][1]) is heap[0]:
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def due(self, now_ms: int, limit: int) -> list[tuple[int, FlowQueue]]:
        """Remove and return the executions whose wake time has passed, at most `limit`, earliest first."""
        due: list[tuple[int, FlowQueue]] = []
        while len(due) < limit:
            earliest = self.next()
            if earliest is None or earliest > now_ms:
                break
            _, seq, queue = heapq.heappop(self._heap)
            del self._waits[seq]
            queue.waiting -= 1
            due.append((seq, queue))
        return due
