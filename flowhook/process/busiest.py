"""Counters by flow for the metrics: one each for the 200 busiest flows, and one that all others share.

The first `MAX_FLOWS` have a place at once. From then on, one that is asked for without a place is counted with the
others, and noted; `rank`, which is called when metrics are collected, gives the busiest of those the places of flows
that did less than half as much since it was called last. A series therefore only ever grows, or begins anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

import attrs

from flowhook.process.metric_table import MAX_FLOWS, OTHER

MAX_CANDIDATES: Final = 4096  # keys without a place that are noted between two rankings
RANK_SECONDS: Final = 30.0  # between two rankings


class Countable(Protocol):
    """What is counted of a key."""

    def total(self) -> int:
        """Return how much was counted, in numbers that only grow."""


C = TypeVar("C", bound=Countable)


@attrs.define(eq=False, repr=False)
class Busiest(Generic[C]):
    """Counts by key, such as a flow's ID; `others` are those of all keys without a place."""

    _make: Callable[[], C]
    _size: int = MAX_FLOWS
    others: C = attrs.field(init=False, default=attrs.Factory(lambda self: self._make(), takes_self=True))
    _places: dict[str, C] = attrs.field(init=False, factory=dict)
    _before: dict[str, int] = attrs.field(init=False, factory=dict)  # totals of those at the latest ranking
    _candidates: dict[str, int] = attrs.field(init=False, factory=dict)
    _ranked: float = attrs.field(init=False, default=0.0)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        """Return the keys with a place."""
        return iter(list(self._places))

    def of(self, key: str, weight: int = 1) -> C:
        """Return the counts of a key, which did so much, or of the others, in constant time."""
        counts = self._places.get(key)
        if counts is not None:
            return counts
        if len(self._places) < self._size:
            return self._places.setdefault(key, self._make())
        if key in self._candidates or len(self._candidates) < MAX_CANDIDATES:
            self._candidates[key] = self._candidates.get(key, 0) + weight
        return self.others

    def items(self) -> Iterator[tuple[str, C]]:
        """Return the counts by key, and at last those of the others if there are any."""
        yield from list(self._places.items())
        if self.others.total():
            yield OTHER, self.others

    def forget(self, key: str) -> None:
        """Free the place of a key, if it has one."""
        self._places.pop(key, None)
        self._before.pop(key, None)

    def rank(self, now: float) -> None:
        """Give places to those that did more, at most every `RANK_SECONDS`; `now` is monotonic, in seconds."""
        if now - self._ranked < RANK_SECONDS:
            return
        self._ranked = now
        done = {key: counts.total() - self._before.get(key, 0) for key, counts in self._places.items()}
        least = iter(heapq.nsmallest(len(self._candidates), done.items(), key=lambda each: each[1]))
        for key, weight in heapq.nlargest(self._size, self._candidates.items(), key=lambda each: each[1]):
            replaced = next(least, None)
            if replaced is None or weight <= 2 * replaced[1]:
                break
            del self._places[replaced[0]]
            self._places[key] = self._make()
        self._candidates.clear()
        self._before = {key: counts.total() for key, counts in self._places.items()}
