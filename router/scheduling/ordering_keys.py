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
        self._queues: dict[tuple[str, str], _KeyedQueue] = {}
        self._by_seq: dict[int, _KeyedQueue] = {}

    def __len__(self) -> int:
        """Return the number of executions with a key."""
        return len(self._by_seq)

    def enter(self, seq: int, flow_id: str, key: str) -> bool:
        """Queue an execution behind earlier ones of its key; return whether its turn is now."""
        queue = self._queues.get((flow_id, key))
        if queue is None:
            queue = self._queues[flow_id, key] = _KeyedQueue((flow_id, key), seq)
            self._by_seq[seq] = queue
            return True
        if queue.behind is None:
            queue.behind = deque()
        queue.behind.append(seq)
        self._by_seq[seq] = queue
        return False

    def is_blocked(self, seq: int) -> bool:
        """Whether an execution has a key and it is another execution's turn."""
        queue = self._by_seq.get(seq)
        return queue is not None and queue.turn != seq

    def leave(self, seq: int) -> int | None:
        """Remove an execution, and return the one whose turn it becomes.

        Takes constant time for the execution whose turn it was, time linear in its queue for any other.
        """
        queue = self._by_seq.pop(seq, None)
        if queue is None:
            return None
        if queue.turn != seq:
            if queue.behind is not None:
                queue.behind.remove(seq)
            return None
        if queue.behind:
            queue.turn = queue.behind.popleft()
            return queue.turn
        del self._queues[queue.id]
        return None
