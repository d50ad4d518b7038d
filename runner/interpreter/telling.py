"""Lifecycle events of tasks and of correlations, for other flows: told as it happens, if anybody wants to know.

What is told goes with the journal: an event that lies before an entry is stored with it, or was before. So a replay
tells nothing until it has read all there is, and what it tells then is what was not stored yet, or what was and is
known by its key: the number of the run of the task, which is the same in every replay.

A task that its `if` skips has no events, for nothing is done. `created` comes when the flow has come to a task,
`started` before its own work (after the `before` of extensions), and one of `completed`, `faulted` and `cancelled` at
its end: that it is cancelled is told when the flow itself does so, because a branch lost its race, a time is over or a
task said `end`. With an execution that others end, or take from its runner, all of it ends unsaid.

Source: dsl-reference.md, "Lifecycle Events"; dsl.md, "Status Phases".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from flowhook.lifecycle import (
    MAX_DATA_BYTES,
    MAX_OUTPUT_BYTES,
    CorrelationLifecycle,
    LifecycleEvent,
    TaskLifecycle,
    error_data,
)
from runner.interpreter import data as json
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, TaskFault, fault_of
from runner.interpreter.journal import Journal
from runner.interpreter.requests import TaskSteps
from runner.interpreter.scope import Scope, Workflow


class Teller:
    """Tells what is wanted of one execution."""

    __slots__ = ("_journal", "_workflow", "wanted")

    def __init__(self, journal: Journal, workflow: Workflow, wanted: Collection[str]) -> None:
        """Tell events of the types that are `wanted`, with what is written next to the journal."""
        self._journal = journal
        self._workflow = workflow
        self.wanted = wanted

    def wants(self, kind: str) -> bool:
        """Whether anybody wants to know, and does not know yet."""
        return kind in self.wanted and not self._journal.replaying

    def tell(self, kind: str, key: str, data: Mapping[str, Any]) -> None:
        """Tell that something happened now."""
        text = orjson.dumps(data)
        if len(text) <= MAX_DATA_BYTES:
            self._journal.told.append(LifecycleEvent(str(kind), key, self._workflow.clock(), text))

    def presentable(self, value: Any) -> Any:
        """Return JSON as others may see it."""
        redactor = self._workflow.redactor
        return value if redactor is None else redactor.redact_values(value)


class TaskTelling:
    """What is told of one run of a task."""

    __slots__ = ("_begun", "_number", "_pointer", "_teller")

    def __init__(self, teller: Teller, pointer: str, number: int, *, begun: bool) -> None:
        """Tell of the `number`th task that the execution runs; `begun`: that it begins was told."""
        self._begun = begun
        self._teller = teller
        self._pointer = pointer
        self._number = number

    def created(self) -> None:
        """Tell that the flow has come to it."""
        self._begun = True
        self._tell(TaskLifecycle.CREATED)

    def acting(self, steps: TaskSteps) -> TaskSteps:
        """Run what the task itself does, and tell that it begins."""
        self._tell(TaskLifecycle.STARTED)
        return (yield from steps)

    def retried(self, times: int) -> None:
        """Tell that it is tried once more, for the how manieth time."""
        self._tell(TaskLifecycle.RETRIED, f"{self._number}.{times}")

    def correlating(self) -> None:
        """Tell that it begins to wait for events."""
        self._correlation(CorrelationLifecycle.STARTED, {})

    def correlated(self, keys: Mapping[str, Any]) -> None:
        """Tell that it has them, and which values they agree in."""
        found = {"correlationKeys": self._teller.presentable(keys)} if keys else {}
        self._correlation(CorrelationLifecycle.COMPLETED, found)

    def run(self, steps: TaskSteps, scope: Scope) -> TaskSteps:
        """Run the whole task, and tell how it ends."""
        try:
            output, then = yield from steps
        except GeneratorExit:
            if self._begun:
                self._tell(TaskLifecycle.CANCELLED)
            raise
        except (ExpressionFailed, SchemaViolated) as problem:
            self._faulted(fault_of(problem, self._pointer), scope)
            raise
        except TaskFault as problem:
            self._faulted(problem.at(self._pointer), scope)
            raise
        if not scope.skipped and self._teller.wants(TaskLifecycle.COMPLETED):
            self._completed(output)
        return output, then

    def _faulted(self, problem: TaskFault, scope: Scope) -> None:
        if not self._begun:
            self.created()  # it is its condition that failed
        self._tell(TaskLifecycle.FAULTED, error=error_data(scope.workflow.presentable(problem)))

    def _completed(self, output: Any) -> None:
        try:
            text = json.encode(self._teller.presentable(output))
        except TaskFault:
            text = b""
        if 0 < len(text) <= MAX_OUTPUT_BYTES:
            self._tell(TaskLifecycle.COMPLETED, output=orjson.Fragment(text))
        else:
            self._tell(TaskLifecycle.COMPLETED)

    def _correlation(self, kind: CorrelationLifecycle, data: Mapping[str, Any]) -> None:
        if self._number and self._teller.wants(kind):
            self._teller.tell(kind, str(self._number), data)

    def _tell(self, kind: TaskLifecycle, key: str = "", **more: Any) -> None:
        # a task that an earlier version left under way has no number, and nothing to be known by
        if self._number and self._teller.wants(kind):
            self._teller.tell(kind, key or str(self._number), {"task": self._pointer, **more})
