"""Records each step of a call for the guard, so that a call that blocks the event loop can be identified."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

import attrs

from runner.guard.evaluation_record import Activity, EvaluationRecord

Outcome = TypeVar("Outcome")


@attrs.define(eq=False, repr=False)
class MonitoredCoroutine(Generic[Outcome]):
    """Awaits a coroutine and writes each of its steps (the code between two awaits) to the shared record.

    Work that it delegates, above all to tasks that it creates, is not recorded.
    """

    _coroutine: Coroutine[Any, Any, Outcome]
    _record: EvaluationRecord
    _lease: bytes
    _instance: str

    def __await__(self) -> Generator[Any, Any, Outcome]:
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
            except BaseException as caught:  # noqa: BLE001 - thrown into the coroutine, cancellation included
                problem = caught
