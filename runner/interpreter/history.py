"""What the tasks of an execution came to: when each began and ended, how often it was tried, and how it was left.

It goes with the entries of the journal, and with the end of an attempt: what nothing is journaled of costs no message
of its own. While a journal is replayed nothing is noted: that was told with the entry that is yet to be read.
"""

from __future__ import annotations

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

Task = list[int | str]
"""Number among all tasks of the execution, key, when it began and ended (Unix ms, 0: not known), tries, result."""

_NUMBER, _BEGAN, _ENDED, _TRIES, _RESULT = 0, 2, 3, 4, 5


class History:
    """Notes tasks until they are told."""

    __slots__ = ("_begun", "_clock", "_ended", "_last_ms")

    def __init__(self, clock: Callable[[], int]) -> None:
        """Note times by `clock`, in Unix milliseconds."""
        self._clock = clock
        self._begun: dict[int, Task] = {}
        self._ended: list[Task] = []
        self._last_ms = 0

    def begin(self, number: int, key: str, *, instant: bool, replaying: bool) -> Task:
        """Note that a task begins; what is returned is for `end`.

        `instant`: nothing can happen until it ends but expressions, so that it begins when the clock was read last:
        most tasks of most flows are so, and the clock costs as much as the rest of this.
        """
        if instant:
            return [number, key, self._last_ms or self._clock(), 0, 1, COMPLETED]
        if not replaying:
            self._last_ms = self._clock()
        task: Task = [number, key, 0 if replaying else self._last_ms, 0, 1, COMPLETED]
        self._begun[number] = task
        return task

    def end(self, task: Task, result: str, tries: int, *, replaying: bool) -> None:
        """Note that a task ended."""
        self._begun.pop(task[_NUMBER], None)  # type: ignore[arg-type]  # the number
        if replaying:
            return
        task[_ENDED] = self._last_ms = self._clock()
        task[_TRIES] = tries
        if result:
            task[_RESULT] = result[:MAX_RESULT]
        self._ended.append(task)
        if len(self._ended) > MAX_TASKS:
            del self._ended[MAX_TASKS // 2]

    def take(self) -> bytes:
        """Take what is to be told: JSON, at most `limits.MAX_HISTORY_BYTES`; empty when there is nothing."""
        told = self._ended
        if self._begun:
            told = told + [task for task in self._begun.values() if task[_BEGAN]]
            self._begun.clear()
        if not told:
            return b""
        self._ended = []
        text = orjson.dumps(told)
        while len(text) > limits.MAX_HISTORY_BYTES and told:
            told = told[: len(told) // 4] + told[len(told) - len(told) // 4 :]
            text = orjson.dumps(told)
        return text if told else b""
