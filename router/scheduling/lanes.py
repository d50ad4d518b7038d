"""Executions that have to run one after another: those of one flow with one order key, in order of arrival.

An execution keeps its turn until it has ended, wherever it is meanwhile: ready, under lease, waiting or suspended.
Executions without a key take no memory here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class _Lane:
    """Executions of one key: the one whose turn it is, and those behind it, if any."""

    id: tuple[str, str]
    turn: int
    behind: deque[int] | None = None


class OrderLanes:
    """All lanes of a shard."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._by_seq: dict[int, _Lane] = {}

    @property
    def blocked(self) -> int:
        """Executions whose turn it is not."""
        return len(self._by_seq) - len(self._lanes)

    def enter(self, seq: int, flow_id: str, key: str) -> bool:
        """Take in an execution behind those of its key that came before; tell whether it is its turn at once."""
        lane = self._lanes.get((flow_id, key))
        if lane is None:
            lane = self._lanes[flow_id, key] = _Lane((flow_id, key), seq)
            self._by_seq[seq] = lane
            return True
        if lane.behind is None:
            lane.behind = deque()
        lane.behind.append(seq)
        self._by_seq[seq] = lane
        return False

    def is_blocked(self, seq: int) -> bool:
        """Whether an execution has a key, and it is another's turn."""
        lane = self._by_seq.get(seq)
        return lane is not None and lane.turn != seq

    def leave(self, seq: int) -> int | None:
        """Forget an execution, and return the one whose turn it is because of that.

        Takes constant time for the one whose turn it was, time linear in its lane for any other.
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
