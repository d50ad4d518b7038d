"""Debouncing: of the events of one key that follow each other closely, one is run, and it absorbs the others.

Executions of one key form a group. It is over when `period` has passed without another of its key; or, as events might
never cease, `MAX_PERIODS` periods after its first, or with `MAX_ABSORBED` executions. Then one of it goes on, the
latest or the first, and the others end. Until that is durable none of them does anything: after a restart the same
groups form again, of what is stored of their executions.

Times are Unix milliseconds, as those of executions that wait: they hold over restarts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_PERIODS: Final = 10  # periods after its first event at which a group is over, whatever follows
MAX_ABSORBED: Final = 1000  # executions of one group: they end in one write


@dataclass(frozen=True, slots=True)
class DebouncePolicy:
    """How the events of a flow are debounced."""

    period_ms: int
    first: bool = False  # whether the first event of a group is run, rather than the latest


class ClosedGroup(NamedTuple):
    """A group that is over: the execution that goes on, and those that it absorbs."""

    flow_id: str
    seq: int
    absorbed: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Group:
    id: tuple[str, str]
    debounce: DebouncePolicy
    first_ms: int
    latest_ms: int
    due_ms: int = 0
    queued_ms: int | None = None  # time of its entry in the heap; other entries are stale. It may be due later
    order_keys: dict[int, str] = field(default_factory=dict)  # of its executions, in order of arrival

    def __lt__(self, other: _Group) -> bool:  # for the heap, between groups of the same time
        return id(self) < id(other)


class DebounceGroups:
    """The groups of a shard."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._by_seq: dict[int, _Group] = {}
        self._heap: list[tuple[int, _Group]] = []

    def __len__(self) -> int:
        return len(self._by_seq)

    def __contains__(self, seq: int) -> bool:
        return seq in self._by_seq

    def add(self, seq: int, of: tuple[str, str], debounce: DebouncePolicy, time_ms: int, order_key: str = "") -> None:
        """Add an execution whose event came at `time_ms` to the group `of` its flow and its key."""
        group = self._groups.get(of)
        if group is None:
            group = self._groups[of] = _Group(of, debounce, time_ms, time_ms)
        group.debounce = debounce
        group.order_keys[seq] = order_key
        self._by_seq[seq] = group
        group.latest_ms = max(group.latest_ms, time_ms)
        group.due_ms = min(group.latest_ms + debounce.period_ms, group.first_ms + MAX_PERIODS * debounce.period_ms)
        if len(group.order_keys) >= MAX_ABSORBED:
            group.due_ms = 0
            del self._groups[of]  # the next one begins another group
        if group.queued_ms is None or group.due_ms < group.queued_ms:
            self._queue(group)

    def _queue(self, group: _Group) -> None:
        group.queued_ms = group.due_ms
        heapq.heappush(self._heap, (group.due_ms, group))

    def remove(self, seq: int) -> str | None:
        """Remove an execution that must not be absorbed, and return its order key; None: it is in no group."""
        group = self._by_seq.pop(seq, None)
        return None if group is None else group.order_keys.pop(seq)

    def due(self, now_ms: int, limit: int) -> list[tuple[ClosedGroup, str]]:
        """Remove and return groups that are over, with the order key of what goes on, until `limit` executions."""
        found: list[tuple[ClosedGroup, str]] = []
        count = 0
        while self._heap and self._heap[0][0] <= now_ms and count < limit:
            at_ms, group = heapq.heappop(self._heap)
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
            taken = seqs.pop(0 if group.debounce.first else -1)
            found.append((ClosedGroup(group.id[0], taken, tuple(seqs)), group.order_keys[taken]))
            group.order_keys = {}
            count += len(seqs) + 1
        return found

    def next(self) -> int | None:
        """Return the Unix time at which `due` next has something to look at, or None."""
        return self._heap[0][0] if self._heap else None

    def expected(self, seqs: Iterable[int]) -> dict[int, int]:
        """Return when the groups of executions are over, of those that are in one."""
        return {seq: group.due_ms for seq in seqs if (group := self._by_seq.get(seq)) is not None}
