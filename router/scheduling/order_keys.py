"""Executions that share an order key: each has its turn until it ends, and a flow may have those that fault keep it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple


class HeldTurn(NamedTuple):
    """The turn that an execution kept when it faulted, as `order_by.on_fault: hold` says."""

    seq: int  # of the execution
    root: str  # ID of the execution that the first of its chained replays replayed; its own ID if it is no replay
    since_ms: int  # Unix time when it faulted


class Blocker(NamedTuple):
    """The execution whose turn it is, and the turn that it kept, if it has ended."""

    seq: int
    held: HeldTurn | None


@dataclass(slots=True)
class _KeyedQueue:
    """Executions of one key: the one whose turn it is, and those queued behind it, if any."""

    id: tuple[str, str]
    turn: int
    behind: OrderedDict[int, None] | None = None
    held: HeldTurn | None = None  # its execution has the turn, or a replay of it has


class KeyedQueues:
    """The keyed queues of a shard: one for each flow and order key."""

    def __init__(self) -> None:
        self.held = 0  # turns that are kept
        self._queues: dict[tuple[str, str], _KeyedQueue] = {}
        self._by_seq: dict[int, _KeyedQueue] = {}

    def __len__(self) -> int:
        return len(self._by_seq)

    def enter(self, seq: int, flow_id: str, key: str, root: str = "") -> bool:
        """Queue an execution behind earlier ones of its key; return whether its turn is now.

        `root`: of a replay, as in `HeldTurn`. A replay of the execution that keeps the turn takes it over.
        """
        queue = self._queues.get((flow_id, key))
        if queue is None:
            queue = self._queues[flow_id, key] = _KeyedQueue((flow_id, key), seq)
        elif root and queue.held is not None and (queue.held.root, queue.held.seq) == (root, queue.turn):
            queue.turn = seq
        elif queue.behind is None:
            queue.behind = OrderedDict({seq: None})
        else:
            queue.behind[seq] = None
        self._by_seq[seq] = queue
        return queue.turn == seq

    def recover_held(self, held: HeldTurn, flow_id: str, key: str) -> None:
        """Add a turn that is kept, before the executions that have not ended."""
        self.enter(held.seq, flow_id, key)
        self._by_seq[held.seq].held = held
        self.held += 1

    def is_blocked(self, seq: int) -> bool:
        queue = self._by_seq.get(seq)
        return queue is not None and queue.turn != seq

    def has_turn(self, seq: int) -> bool:
        queue = self._by_seq.get(seq)
        return queue is not None and queue.turn == seq

    def blocker(self, seq: int) -> Blocker | None:
        """Return whose turn it is if an execution waits for its own; else None."""
        queue = self._by_seq.get(seq)
        if queue is None or queue.turn == seq:
            return None
        held = queue.held
        return Blocker(queue.turn, held if held is not None and held.seq == queue.turn else None)

    def held_of(self, seq: int) -> HeldTurn | None:
        """Return the turn that is kept of an execution's key."""
        queue = self._by_seq.get(seq)
        return None if queue is None else queue.held

    def held_for(self, flow_id: str, key: str, root: str) -> HeldTurn | None:
        """Return the turn of a key that an execution or one of its replays keeps."""
        queue = self._queues.get((flow_id, key))
        held = None if queue is None else queue.held
        return held if held is not None and held.root == root else None

    def keep(self, seq: int, held: HeldTurn) -> None:
        """Let an execution that ended keep its turn, in place of the one that it replays."""
        queue = self._by_seq[seq]
        self._drop(queue)
        queue.held = held
        self.held += 1

    def leave(self, seq: int, *, completed: bool = True) -> int | None:
        """Remove an execution, and return the one whose turn it becomes.

        A replay that has not `completed` gives the turn back to what it replays.
        """
        queue = self._by_seq.pop(seq, None)
        if queue is None:
            return None
        if queue.turn != seq:
            if queue.behind is not None:
                del queue.behind[seq]
            return None
        if queue.held is not None and queue.held.seq != seq and not completed:
            queue.turn = queue.held.seq
            return None
        self._drop(queue)
        if queue.behind:
            queue.turn, _ = queue.behind.popitem(last=False)
            return queue.turn
        del self._queues[queue.id]
        return None

    def release(self, held: HeldTurn) -> tuple[str, int] | None:
        """End the keeping of a turn, if it lasts; return the flow, and the execution whose turn it becomes, if any."""
        queue = self._by_seq.get(held.seq)
        if queue is None or queue.held != held:
            return None
        if queue.turn != held.seq:  # a replay has it
            self._drop(queue)
            return None
        turn = self.leave(held.seq)
        return None if turn is None else (queue.id[0], turn)

    def _drop(self, queue: _KeyedQueue) -> None:
        if queue.held is not None:
            self._by_seq.pop(queue.held.seq, None)
            queue.held = None
            self.held -= 1
