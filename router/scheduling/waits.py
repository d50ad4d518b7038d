"""Executions that wait, and when each is to be woken.

Wake times are Unix milliseconds: what a flow waits for is a moment of the calendar, and it is the same one after a
restart. Unlike other times in the core they belong to a clock that may be set back or forward; it is asked again each
time, so that nothing but the present reading counts.
"""

from __future__ import annotations

import heapq
from typing import Final

from router.scheduling.queues import FlowQueue

MIN_STALE: Final = 1024
"""Entries of the heap that may be out of date before it is made anew; beyond it as many as there are good ones."""

_Wait = tuple[int, int, FlowQueue]
"""Wake time, sequence number, flow. An entry of the heap is good while it is the very one in the table."""

NEVER: Final = -1
"""Wake time of an execution that no time wakes; it is not in the heap."""


class Waits:
    """Waiting executions by sequence number, some 200 bytes each."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}
        self._heap: list[_Wait] = []

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, seq: int) -> bool:
        return seq in self._waits

    def add(self, seq: int, queue: FlowQueue, wake_at_ms: int | None) -> None:
        """Have an execution wait until a time, or (None) until it is taken out."""
        wait = (NEVER if wake_at_ms is None else wake_at_ms, seq, queue)
        self._waits[seq] = wait
        if wake_at_ms is not None:
            heapq.heappush(self._heap, wait)

    def get(self, seq: int) -> FlowQueue | None:
        """Return the flow of an execution; None when it does not wait."""
        wait = self._waits.get(seq)
        return None if wait is None else wait[2]

    def pop(self, seq: int) -> FlowQueue | None:
        """Take an execution out; None when it does not wait."""
        wait = self._waits.pop(seq, None)
        if wait is None:
            return None
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
        """Take out what is to be woken by now, at most `limit` executions, earliest first."""
        due: list[tuple[int, FlowQueue]] = []
        while len(due) < limit:
            earliest = self.next()
            if earliest is None or earliest > now_ms:
                break
            _, seq, queue = heapq.heappop(self._heap)
            del self._waits[seq]
            due.append((seq, queue))
        return due
