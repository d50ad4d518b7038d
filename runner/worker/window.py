"""How many executions a runner takes at a time: as many as it may, but no more than are got rid of in time.

What a busy flow has under way beyond that makes nothing faster. It queues on the stream, in the router's commits and in
the turns of the loop, where it can't be sorted by flow any more, and the flows that have little to do wait behind it.
What still waits for its turn in the router is sorted. So the window shrinks while the router's word on an outcome takes
long, and grows while it does not, or while no word is waited for: executions that wait for other systems for long have,
after some seconds, as many beside them as there may be.

Source: the idea is TCP Vegas' (Brakmo, Peterson: "TCP Vegas: End to End Congestion Avoidance on a Global Internet",
1995); that it shrinks by a part and grows from what there is makes it settle.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 32
"""Executions at a time until something is known."""

LEAST: Final = 16
"""Fewer make the whole slower: what gathers while a commit is under way shares the next one (docs/performance.md)."""

GOOD_SECONDS: Final = 0.02
"""A word that takes no longer than this, or than `SLOWER` times the quickest, is quick."""

SLOWER: Final = 2.0

TICK_SECONDS: Final = 0.1
"""How often `tick` wants to be called."""

_SHRINKING: Final = 0.9
_GROWING: Final = 1.05
_FORGETTING: Final = 1.002
"""How much slower the quickest is taken to be with each word, so that a disk that became slow is learned of."""


class Window:
    """Begins small, and is told how long the router took."""

    def __init__(self, most: int) -> None:
        """Let there be `most` executions at a time at the very most."""
        self._most = most
        self._size = float(min(most, FIRST))
        self._quickest = float("inf")

    @property
    def size(self) -> int:
        """Executions at a time, in [1, `most`]."""
        return int(self._size)

    def observe(self, seconds: float, *, used: bool) -> None:
        """Note how long the router's word on an outcome took, and whether most of the window was in use."""
        self._quickest = min(self._quickest * _FORGETTING, seconds)
        if seconds > max(GOOD_SECONDS, SLOWER * self._quickest):
            self._size = max(min(LEAST, self._most), self._size * _SHRINKING)
        elif used:
            self._grow()

    def tick(self, *, used: bool) -> None:
        """Note that no word is waited for now, and whether most of the window is in use."""
        if used:
            self._grow()

    def _grow(self) -> None:
        self._size = min(self._most, max(self._size + 1.0, self._size * _GROWING))
