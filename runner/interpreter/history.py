"""What the tasks of an execution came to: when each began and ended, how often it was tried, and how it was left.

It goes with the entries of the journal, and with the end of an attempt: what nothing is journaled of costs no message
of its own. While a journal is replayed nothing is noted: that was told with the entry that is yet to be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import orjson

from flowhook import limits

MAX_TASKS: Final = 100
"""Tasks that are told at a time: of more, the first and the last."""

MAX_RESULT: Final = 200
"""Characters of how a task was left."""

COMPLETED: Final = ""
SKIPPED: Final = "-"
CANCELLED: Final = "x"
BRANCHED: Final = ">"
"""Before the directive that a `switch` chose."""
FAULTED: Final = "!"
"""Before what is told of the error."""

Task = tuple[int, str, int, int, int, str]
"""Number among all tasks of the execution, key, when it began and ended (Unix ms, 0: not known), tries, result."""

Begun = tuple[int, str, int]
"""Number, key, and when it began; `AT_ONCE` for one in which nothing can happen but expressions."""

AT_ONCE: Final = -1
"""It began when the clock was read last: most tasks of most flows are so, and the clock costs as much as the rest."""


class History:
    """Notes tasks until they are told.

    A number of 0 is that of a task which an earlier version left under way, and did not count: it is left out.
    """

    __slots__ = ("_begun", "_clock", "_first", "_last", "_last_ms")

    def __init__(self, clock: Callable[[], int]) -> None:
        """Note times by `clock`, in Unix milliseconds."""
        self._clock = clock
        self._begun: dict[int, Begun] = {}
        self._first: list[Task] = []
        self._last: deque[Task] = deque(maxlen=MAX_TASKS // 2)
        self._last_ms = 0

    def begin(self, number: int, key: str, *, replaying: bool) -> Begun:
        """Note that a task begins; what is returned is for `end`. One that is `AT_ONCE` need not be noted here."""
        if replaying or not number:
            return number, key, 0
        self._last_ms = self._clock()
        task = self._begun[number] = (number, key, self._last_ms)
        return task

    def end(self, begun: Begun, result: str, tries: int, *, replaying: bool) -> None:
        """Note that a task ended."""
        number, key, began = begun
        if began != AT_ONCE:
            self._begun.pop(number, None)
        if replaying or not number:
            return
        now = self._clock()
        if began == AT_ONCE:
            began = self._last_ms or now
        self._last_ms = now
        task = (number, key, began, now, tries, result[:MAX_RESULT] if result else result)
        if len(self._first) < MAX_TASKS // 2:
            self._first.append(task)
        else:
            self._last.append(task)

    def take(self) -> bytes:
        """Take what is to be told: JSON, at most `limits.MAX_HISTORY_BYTES`; empty when there is nothing."""
        told = [*self._first, *self._last, *((*begun, 0, 1, COMPLETED) for begun in self._begun.values())]
        if not told:
            return b""
        self._begun.clear()
        self._first.clear()
        self._last.clear()
        text = orjson.dumps(told)
        while len(text) > limits.MAX_HISTORY_BYTES and told:
            told = told[: len(told) // 4] + told[len(told) - len(told) // 4 :]
            text = orjson.dumps(told)
        return text if told else b""
