"""Whose turn it is: flows take turns, so that one with hundreds of executions in hand does not hold up another's."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits for its turn: in order of coming within a flow; flows in a ring, one item of each at a time."""

    __slots__ = ("_ring", "_waiting")

    def __init__(self) -> None:
        """Start with nothing."""
        self._ring: deque[str] = deque()
        self._waiting: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._ring)

    def add(self, flow_id: str, item: T) -> None:
        """Have something wait behind what waits of its flow."""
        waiting = self._waiting.get(flow_id)
        if waiting is None:
            waiting = self._waiting[flow_id] = deque()
            self._ring.append(flow_id)
        waiting.append(item)

    def next(self) -> T:
        """Take what comes next.

        Raises:
            IndexError: nothing waits.
        """
        flow_id = self._ring.popleft()
        waiting = self._waiting[flow_id]
        item = waiting.popleft()
        if waiting:
            self._ring.append(flow_id)
        else:
            del self._waiting[flow_id]
        return item
