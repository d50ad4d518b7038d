"""Lines of executions that wait for the same: those of a higher priority first, else in order of arrival."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from flowhook.events.keys import UNSHAPED, ShapingKeys

Line = TypeVar("Line", bound=Iterable[int])


def positions(
    line_of: Mapping[int, Line], seqs: Iterable[int], *, most: int, most_of_line: int
) -> Iterator[tuple[Line, int, int]]:
    """Yield the executions that wait in a line, each with that and its position there, from 1; 0: too far back.

    At most so many executions are looked at, of all lines and of each.
    """
    wanted: defaultdict[Line, set[int]] = defaultdict(set)
    for seq in seqs:
        if (line := line_of.get(seq)) is not None:
            wanted[line].add(seq)
    for line, asked in wanted.items():
        for position, seq in enumerate(islice(line, min(most, most_of_line)), 1):
            most -= 1
            if seq in asked:
                asked.discard(seq)
                yield line, seq, position
                if not asked:
                    break
        yield from ((line, seq, 0) for seq in asked)


class WaitingLine:
    """One line, with the methods of a deque that lines need. An empty one takes about 100 bytes.

    `keys` has the priorities of executions, and must not change while they are in the line.
    """

    __slots__ = ("_by_priority", "_keys", "_length")

    def __init__(self, keys: Mapping[int, ShapingKeys]) -> None:
        self._keys = keys
        self._by_priority: dict[int, deque[int]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        for priority in sorted(self._by_priority, reverse=True):
            yield from self._by_priority[priority]

    def __getitem__(self, index: int) -> int:
        """Return the first; there is no other index."""
        if index or not self._length:
            raise IndexError(index)
        return self._by_priority[max(self._by_priority)][0]

    def append(self, seq: int) -> None:
        self._of(seq).append(seq)
        self._length += 1

    def appendleft(self, seq: int) -> None:
        """Add an execution before all others of its priority."""
        self._of(seq).appendleft(seq)
        self._length += 1

    def popleft(self) -> int:
        priority = max(self._by_priority)
        line = self._by_priority[priority]
        seq = line.popleft()
        self._length -= 1
        if not line:
            del self._by_priority[priority]
        return seq

    def remove(self, seq: int) -> None:
        """Remove an execution, in time linear in the line; ValueError: it is not there."""
        priority = self._keys.get(seq, UNSHAPED).priority
        line = self._by_priority.get(priority, deque())
        line.remove(seq)
        self._length -= 1
        if not line:
            del self._by_priority[priority]

    def clear(self) -> None:
        self._by_priority.clear()
        self._length = 0

    def _of(self, seq: int) -> deque[int]:
        return self._by_priority.setdefault(self._keys.get(seq, UNSHAPED).priority, deque())
