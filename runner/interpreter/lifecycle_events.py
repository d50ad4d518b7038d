"""Emission of lifecycle events of tasks and correlations, for flows that subscribe to them.

Events are stored with the journal: each one with the entry that follows it. A replay therefore emits nothing until it
has read the whole journal. An event that it emits afterwards was not stored yet, or is recognized as a duplicate by its
key: the number of the task's run, which is the same in every replay.

A task skipped by its `if` has no events. `created` is emitted when the flow reaches a task, `started` before the task's
own work (after the `before` of extensions), and one of `completed`, `faulted` and `cancelled` at its end. `cancelled`
is emitted when the flow itself cancels a task: its branch lost a race, a timeout expired, or a task had the directive
`end`. If an execution is ended from outside, or taken from its runner, the end of its tasks is not reported.

Source: dsl-reference.md, "Lifecycle Events"; dsl.md, "Status Phases".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs
import orjson

from flowhook.document.definition import error_types
from flowhook.events.lifecycle import (
    MAX_DATA_BYTES,
    MAX_OUTPUT_BYTES,
    CorrelationEventType,
    LifecycleEvent,
    TaskEventType,
    error_data,
)
from runner.interpreter import json_codec
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, TaskFault, fault_of
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.journal import Journal
from runner.interpreter.requests import TaskSteps


@attrs.define(eq=False, repr=False)
class LifecycleEmitter:
    """Emits the lifecycle events of one execution that flows subscribe to; each is stored with the next entry."""

    _journal: Journal
    workflow: ExecutionContext
    types: Collection[str]

    def is_subscribed(self, kind: str) -> bool:
        """Whether there is a subscriber for events of this type, and the journal is not being replayed."""
        return kind in self.types and not self._journal.replaying

    def emit(self, kind: str, key: str, data: Mapping[str, Any]) -> None:
        """Emit an event with the current time; dropped if `data` has more than `MAX_DATA_BYTES` as JSON."""
        text = orjson.dumps(data)
        if len(text) <= MAX_DATA_BYTES:
            self._journal.lifecycle_events.append(LifecycleEvent(str(kind), key, self.workflow.clock(), text))

    def redacted(self, value: Any) -> Any:
        redactor = self.workflow.redactor
        return value if redactor is None else redactor.redact_values(value)


@attrs.define(eq=False, repr=False)
class TaskEvents:
    """Emits the lifecycle events of one run of a task: the `number`th that the execution runs."""

    _emitter: LifecycleEmitter
    _pointer: str
    _number: int
    _created: bool = attrs.field(kw_only=True)  # `task.created` was emitted: the task is not skipped

    def created(self) -> None:
        self._created = True
        self._emit(TaskEventType.CREATED)

    def started(self) -> None:
        self._emit(TaskEventType.STARTED)

    def retried(self, times: int) -> None:
        self._emit(TaskEventType.RETRIED, f"{self._number}.{times}")

    def correlation_started(self) -> None:
        self._emit(CorrelationEventType.STARTED)

    def correlation_completed(self, keys: Mapping[str, Any]) -> None:
        data = {"correlationKeys": self._emitter.redacted(keys)} if keys else {}
        self._emit(CorrelationEventType.COMPLETED, **data)

    def run(self, steps: TaskSteps) -> TaskSteps:
        """Run a task, and emit the lifecycle event of its end."""
        try:
            output, then = yield from steps
        except GeneratorExit:
            if self._created:
                self._emit(TaskEventType.CANCELLED)
            raise
        except (ExpressionFailed, SchemaViolated, TaskFault) as problem:
            if not self._created:
                self.created()  # its condition failed
            error = self._emitter.workflow.redacted(fault_of(problem, self._pointer))
            self._emit(TaskEventType.FAULTED, error=error_data(error, error_types(self._emitter.workflow.definition)))
            raise
        if self._created and self._emitter.is_subscribed(TaskEventType.COMPLETED):
            self._completed(output)
        return output, then

    def _completed(self, output: Any) -> None:
        try:
            text = json_codec.encode(self._emitter.redacted(output))
        except TaskFault:
            text = b""
        shown: dict[str, Any] = {"output": orjson.Fragment(text)} if 0 < len(text) <= MAX_OUTPUT_BYTES else {}
        self._emit(TaskEventType.COMPLETED, **shown)

    def _emit(self, kind: TaskEventType | CorrelationEventType, key: str = "", **data: Any) -> None:
        if self._emitter.is_subscribed(kind):
            task = {"task": self._pointer} if isinstance(kind, TaskEventType) else {}
            self._emitter.emit(kind, key or str(self._number), {**task, **data})
