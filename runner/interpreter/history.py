"""History of an execution's tasks: start, end, number of attempts and outcome of each.

It is sent with the entries of the journal and with the end of an attempt, so tasks that journal nothing cost no message
of their own. Nothing is recorded while a journal is replayed: that history was sent with the entry that is replayed
next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import orjson

from flowhook import limits

MAX_TASKS: Final = 100  # tasks that are sent at a time; of more, the first and the last
MAX_RESULT: Final = 200  # characters of a task's outcome

# outcomes of tasks
COMPLETED: Final = ""
SKIPPED: Final = "-"
CANCELLED: Final = "x"
BRANCHED_PREFIX: Final = ">"  # of the directive that a `switch` chose
FAULTED_PREFIX: Final = "!"  # of the description of an error

TaskEntry = tuple[int, str, int, int, int, str]
"""Number among all tasks of the execution, key, start and end (Unix ms, 0: unknown), attempts, outcome."""

StartedTask = tuple[int, str, int]
"""Number, key, and start (Unix ms); `WITHOUT_CLOCK` for a task that only evaluates expressions."""

WITHOUT_CLOCK: Final = -1
"""The task started at the last reading of the clock. Most tasks do, and reading it costs as much as all the rest."""


@attrs.define(eq=False, repr=False)
class TaskHistory:
    """Records tasks until they are drained."""

    _clock: Callable[[], int]  # returns Unix milliseconds
    _started: dict[int, StartedTask] = attrs.field(init=False, factory=dict)
    _first: list[TaskEntry] = attrs.field(init=False, factory=list)
    _last: deque[TaskEntry] | None = attrs.field(init=False, default=None)  # None: `_first` holds all
    _last_ms: int = attrs.field(init=False, default=0)

    def begin(self, number: int, key: str, *, replaying: bool) -> StartedTask:
        """Record the start of a task; pass the result to `end`. A task that is `WITHOUT_CLOCK` needs no such call."""
        if replaying:
            return number, key, 0
        self._last_ms = self._clock()
        task = self._started[number] = (number, key, self._last_ms)
        return task

    def end(self, started: StartedTask, result: str, tries: int, *, replaying: bool) -> None:
        """Keep how a task ended: of many tasks the first and the last half of `MAX_TASKS`."""
        number, key, began = started
        if began != WITHOUT_CLOCK:
            self._started.pop(number, None)
        if replaying:
            return
        now = self._clock()
        if began == WITHOUT_CLOCK:
            began = self._last_ms or now
        self._last_ms = now
        task = (number, key, began, now, tries, result[:MAX_RESULT] if result else result)
        if len(self._first) < MAX_TASKS // 2:
            self._first.append(task)
            return
        if self._last is None:
            self._last = deque(maxlen=MAX_TASKS // 2)
        self._last.append(task)

    def drain(self) -> bytes:
        """Remove and return the recorded tasks: JSON, at most `limits.MAX_HISTORY_BYTES`; empty if there are none."""
        tasks, self._first = self._first, []
        if self._last is not None:
            tasks += self._last
            self._last = None
        if self._started:
            tasks += [(*started, 0, 1, COMPLETED) for started in self._started.values()]
            self._started.clear()
        if not tasks:
            return b""
        text = orjson.dumps(tasks)
        while len(text) > limits.MAX_HISTORY_BYTES and tasks:
            tasks = tasks[: len(tasks) // 4] + tasks[len(tasks) - len(tasks) // 4 :]
            text = orjson.dumps(tasks)
        return text if tasks else b""
