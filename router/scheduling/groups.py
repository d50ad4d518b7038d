"""Groups of events that one execution runs for: those that are debounced, and those of a batch.

Executions of one key form a group. When it is over one of it goes on, and absorbs the others, which end. Debounced, it
is over when `period` has passed without another of its key; or, as events might never cease, `MAX_PERIODS` periods
after its first, or with `MAX_GROUP` executions; the latest or the first goes on. A batch is over when `period` has
passed since its first, or when it has its size; the first goes on, with the events of all as its input. Until that is
durable none of them does anything: after a restart the same groups form again, of what is stored of their executions.

Times are Unix milliseconds, as those of executions that wait: they hold over restarts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flowhook import limits

MAX_PERIODS: Final = 10  # periods after its first event at which a debounced group is over, whatever follows
MAX_GROUP: Final = limits.MAX_BATCH_SIZE  # executions of one group: they end in one write


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """How the events of a flow are debounced or batched."""

    period_ms: int
    first: bool = False  # whether the first event of a group is run, rather than the latest
    size: int = 0  # events with which a batch is over; 0: they are debounced

    @property
    def batches(self) -> bool:
        return self.size > 0


class GroupId(NamedTuple):
    """What the executions of a group have in common."""

    flow_id: str
    key: str
    batches: bool  # as their events were accepted: a flow may have changed since


class ClosedGroup(NamedTuple):
    """A group that is over: the execution that goes on, and those that it absorbs."""

    flow_id: str
    seq: int
    absorbed: tuple[int, ...]
    batches: bool = False  # whether it goes on with their events


class GroupWait(NamedTuple):
    """What an execution waits for in its group."""

    until_ms: int
    events: int  # that the group has
    size: int  # with which it is over; 0: it is debounced


@dataclass(slots=True, eq=False)
class _Group:
    id: GroupId
    policy: GroupPolicy
    seq: int  # its first execution
    first_ms: int
    latest_ms: int
    due_ms: int = 0
    queued_ms: int | None = None  # time of its entry in the heap; other entries are stale. It may be due later
    bytes: int = 0  # of the events of a batch, those that left it included
    order_keys: dict[int, str] = field(default_factory=dict)  # of its executions, in order of arrival

    def __lt__(self, other: _Group) -> bool:  # for the heap, between groups of the same time
        return self.seq < other.seq


class EventGroups:
    """The groups of a shard."""

    def __init__(self) -> None:
        self._groups: dict[GroupId, _Group] = {}
        self._by_seq: dict[int, _Group] = {}
        self._heap: list[tuple[int, _Group]] = []

    def __len__(self) -> int:
        return len(self._by_seq)

    def __contains__(self, seq: int) -> bool:
        return seq in self._by_seq

    def add(
        self, seq: int, of: GroupId, policy: GroupPolicy, time_ms: int, *, order_key: str = "", size: int = 0
    ) -> None:
        """Add an execution to the group `of` its flow and its key; its event came at `time_ms`, and has `size` bytes.

        `policy` is of the same kind as the group.
        """
        group = self._groups.get(of)
        is_late = group is not None and policy.batches and time_ms > group.due_ms  # and so is the timer
        if group is not None and (is_late or group.bytes + size > limits.MAX_BATCHED_BYTES):
            self._close(group)
            group = None
        if group is None:
            group = self._groups[of] = _Group(of, policy, seq, time_ms, time_ms)
        group.policy = policy
        group.order_keys[seq] = order_key
        group.bytes += size
        self._by_seq[seq] = group
        group.latest_ms = max(group.latest_ms, time_ms)
        if policy.batches:
            group.due_ms = group.first_ms + policy.period_ms
        else:
            group.due_ms = min(group.latest_ms + policy.period_ms, group.first_ms + MAX_PERIODS * policy.period_ms)
        if len(group.order_keys) >= (policy.size or MAX_GROUP):
            self._close(group)
        elif group.queued_ms is None or group.due_ms < group.queued_ms:
            self._queue(group)

    def _close(self, group: _Group) -> None:
        """Let a group be over now: the next execution of its key begins another one."""
        group.due_ms = 0
        del self._groups[group.id]
        self._queue(group)

    def _queue(self, group: _Group) -> None:
        group.queued_ms = group.due_ms
        heapq.heappush(self._heap, (group.due_ms, group))

    def remove(self, seq: int) -> str | None:
        """Remove an execution that must not be absorbed, and return its order key; None: it is in no group."""
        group = self._by_seq.pop(seq, None)
        return None if group is None else group.order_keys.pop(seq)

    def due(self, now_ms: int, limit: int) -> list[tuple[ClosedGroup, str]]:
        """Remove and return groups that are over, with the order key of what goes on.

        No more once that took `limit` steps: one for each group that is looked at, and for each that is absorbed.
        """
        found: list[tuple[ClosedGroup, str]] = []
        count = 0
        while self._heap and self._heap[0][0] <= now_ms and count < limit:
            at_ms, group = heapq.heappop(self._heap)
            count += 1
            if at_ms != group.queued_ms:
                continue
            if group.order_keys and group.due_ms > at_ms:
                self._queue(group)
                continue
            if self._groups.get(group.id) is group:
                del self._groups[group.id]
            if not group.order_keys:
                continue
            seqs = list(group.order_keys)
            for seq in seqs:
                del self._by_seq[seq]
            taken = seqs.pop(0 if group.policy.first else -1)
            closed = ClosedGroup(group.id.flow_id, taken, tuple(seqs), group.id.batches)
            found.append((closed, group.order_keys[taken]))
            group.order_keys = {}
            count += len(seqs)
        return found

    def next(self) -> int | None:
        """Return the Unix time at which `due` next has something to look at, or None."""
        return self._heap[0][0] if self._heap else None

    def expected(self, seqs: Iterable[int]) -> dict[int, GroupWait]:
        """Return what executions wait for, of those that are in a group."""
        return {
            seq: GroupWait(group.due_ms, len(group.order_keys), group.policy.size)
            for seq in seqs
            if (group := self._by_seq.get(seq)) is not None
        }
