"""A fair queue: round-robin over flows, so that a flow with hundreds of executions does not delay the others."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Queued items: first in, first out within a flow; flows in a ring, one item of each at a time."""

    __slots__ = ("_ring", "_waiting")

    def __init__(self) -> None:
        """Start empty."""
        self._ring: deque[str] = deque()
        self._waiting: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        """Whether any item is queued."""
        return bool(self._ring)

    def add(self, flow_id: str, item: T) -> None:
        """Append an item behind the other items of its flow."""
        waiting = self._waiting.get(flow_id)
        if waiting is None:
            waiting = self._waiting[flow_id] = deque()
            self._ring.append(flow_id)
        waiting.append(item)

    def next(self) -> T:
        """Remove and return the next item.

        Raises:
            IndexError: the queue is empty.
        """
        flow_id = self._ring.popleft()
        waiting = self._waiting[flow_id]
        item = waiting.popleft()
        if waiting:
            self._ring.append(flow_id)
        else:
            del self._waiting[flow_id]
        return item
