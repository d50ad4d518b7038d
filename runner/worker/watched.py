"""Calls under the eyes of the guard: whoever blocks the event loop in one is known by name."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from runner.guard.record import Activity, Record

Outcome = TypeVar("Outcome")


class Watched(Generic[Outcome]):
    """Awaits a coroutine and notes in the record each step that it takes between two awaits.

    What it has others do, tasks of its own above all, is not noted.
    """

    __slots__ = ("_coroutine", "_instance", "_lease", "_record")

    def __init__(self, coroutine: Coroutine[Any, Any, Outcome], record: Record, lease: bytes, instance: str) -> None:
        """Await `coroutine`, which works for a lease at the task `instance`."""
        self._coroutine = coroutine
        self._record = record
        self._lease = lease
        self._instance = instance

    def __await__(self) -> Generator[Any, Any, Outcome]:
        """Take one step after another; see `coroutine.send`."""
        answer: Any = None
        problem: BaseException | None = None
        while True:
            self._record.assign(self._lease)
            self._record.begin(self._instance, Activity.STEP)
            try:
                awaited = self._coroutine.send(answer) if problem is None else self._coroutine.throw(problem)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            finally:
                self._record.end()
            answer = problem = None
            try:
                answer = yield awaited
            except BaseException as caught:  # noqa: BLE001 - it is the coroutine's, cancellation included
                problem = caught
