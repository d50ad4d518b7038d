"""Serialises the executions of a flow that share an order key, in order of arrival.

An execution has its turn until it ends, whatever its state: ready, leased, waiting or suspended. Executions without a
key take no memory here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class _KeyedQueue:
    """Executions of one key: the one whose turn it is, and those queued behind it, if any."""

    id: tuple[str, str]
    turn: int
    behind: deque[int] | None = None


class KeyedQueues:
    """The keyed queues of a shard: one for each flow and order key."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _KeyedQueue] = {}
        self._by_seq: dict[int, _KeyedQueue] = {}

    @property
    def blocked(self) -> int:
        """Executions whose turn it is not."""
        return len(self._by_seq) - len(self._lanes)

    def enter(self, seq: int, flow_id: str, key: str) -> bool:
        """Queue an execution behind earlier ones of its key; return whether its turn is now."""
        lane = self._lanes.get((flow_id, key))
        if lane is None:
            lane = self._lanes[flow_id, key] = _KeyedQueue((flow_id, key), seq)
            self._by_seq[seq] = lane
            return True
        if lane.behind is None:
            lane.behind = deque()
        lane.behind.append(seq)
        self._by_seq[seq] = lane
        return False

    def is_blocked(self, seq: int) -> bool:
        """Whether an execution has a key and it is another execution's turn."""
        lane = self._by_seq.get(seq)
        return lane is not None and lane.turn != seq

    def leave(self, seq: int) -> int | None:
        """Remove an execution, and return the one whose turn it becomes.

        Takes constant time for the execution whose turn it was, time linear in its queue for any other.
        """
        lane = self._by_seq.pop(seq, None)
        if lane is None:
            return None
        if lane.turn != seq:
            if lane.behind is not None:
                lane.behind.remove(seq)
            return None
        if lane.behind:
            lane.turn = lane.behind.popleft()
            return lane.turn
        del self._lanes[lane.id]
        return None
