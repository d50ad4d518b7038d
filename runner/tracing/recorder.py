"""Records the tasks of a trace: an observer of the interpreter, and of the answers in the journal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from flowhook import limits
from flowhook.document.definition import kind_of
from flowhook.model import FailedResponse, JournalEntry, WorkflowError
from flowhook.model.execution_trace import (
    MAX_TASKS,
    TaskOutcome,
    TracedError,
    TracedRequest,
    TracedResponse,
    TracedTask,
)
from runner.interpreter.effects import EMIT, RUN_WORKFLOW, Perform, idempotency_key
from runner.interpreter.errors import TaskFault
from runner.interpreter.fibers import ExternalRequest, PendingRequest
from runner.interpreter.journal import holds_time, time_of
from runner.interpreter.nodes import Node
from runner.interpreter.requests import AwaitCompletion, GivenOutput, Listen, Now, Sleep, WithTimeout
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.tracing import Observation, TaskStart
from runner.tracing.secret_placeholders import mentions_secrets
from runner.tracing.values import ValueTable

CPU_SECONDS: Final = 1.5
"""CPU time after which a trace ends with the tasks that it has, before its process is killed."""

_BLOCKS: Final = frozenset({"do", "for", "fork", "try", "catch", "foreach"})
"""Keys of a task that contain other tasks."""

_MAX_DETAIL: Final = 4000
"""Characters of the detail of an error."""


_MAX_RESPONSES: Final = 256 * limits.KIB
"""Characters of all bodies of responses of errors: a call that is tried again may have thousands."""


class TraceLimitError(Exception):
    """The trace has reached a limit; it holds all up to here."""


@dataclass(slots=True)
class _Task:
    node: Node
    number: int
    key: str
    scope: ExpressionScope
    context_before: int
    context_after: int | None = None
    outcome: TaskOutcome = "unfinished"
    input: int | None = None
    output: int | None = None
    then: str = ""
    error: TracedError | None = None
    requests: list[TracedRequest] = field(default_factory=list)


class TraceRecorder:
    """Records tasks in the order in which they begin (`runner.interpreter.tracing.Observer`)."""

    def __init__(self, values: ValueTable, effect_scope: str) -> None:
        """Record values in `values`; `effect_scope` is the first part of idempotency keys, empty if unknown."""
        self._values = values
        self._effect_scope = effect_scope
        self._tasks: list[_Task] = []
        self._open: dict[int, _Task] = {}
        self._latest: dict[str, _Task] = {}
        """The latest run of each task, by key."""
        self._response_room = _MAX_RESPONSES
        self._ends_at = time.process_time() + CPU_SECONDS

    def task_started(self, started: TaskStart) -> None:
        """Record a task.

        Raises:
            TraceLimitError: there are too many, or they took too long.
        """
        if len(self._tasks) >= MAX_TASKS or time.process_time() > self._ends_at:
            raise TraceLimitError
        task = _Task(started.node, started.number, started.key, started.scope, self._values.add(started.context))
        self._tasks.append(task)
        self._open[task.number] = self._latest[task.key] = task

    def task_ended(self, seen: Observation) -> None:
        """Record how a task ended."""
        task = self._open.pop(seen.number)
        task.input = self._values.add(seen.input)
        task.context_after = self._values.add(seen.context)
        task.then = seen.then
        if seen.error is not None:
            task.outcome, task.error = "faulted", self.traced_error(seen.error)
        else:
            task.outcome = "skipped" if seen.skipped else "completed"
            task.output = self._values.add(seen.output)

    def task_cancelled(self, number: int) -> None:
        """Record that a task was cancelled, by a timeout or because another branch ended the fork."""
        task = self._open.pop(number, None)
        if task is not None:
            task.outcome, task.input = "cancelled", self._input_of(task)

    def request_answered(self, request: ExternalRequest, entry: JournalEntry) -> None:
        """Record the answer to a request, or the deadline of a wait."""
        task = self._task_of(request.key)
        if task is None:
            return
        traced = self._request(request)
        if isinstance(request, Sleep | WithTimeout | Now):
            traced = _with_time(traced, entry)
        elif entry.error is not None:
            traced = replace(traced, answered=True, error=self.traced_error(entry.error))
        else:
            result = self._values.add_json(entry.output or b"null")
            traced = replace(traced, answered=True, result=result, execution_id=_execution_of(request, entry))
        last = task.requests[-1] if task.requests else None
        if last is not None and last.key == traced.key and last.kind == traced.kind and not last.answered:
            task.requests[-1] = replace(traced, until_ms=traced.until_ms or last.until_ms)
        else:
            task.requests.append(traced)

    def finish(self, pending: Iterable[PendingRequest], *, ended: bool) -> tuple[TracedTask, ...]:
        """Return the tasks.

        Args:
            pending: requests that the journal does not answer.
            ended: whether the workflow ended; then the tasks that did not were cancelled.
        """
        for each in pending:
            task = self._task_of(each.request.key)
            if task is not None and not any(_is_same(known, each.request.key) for known in task.requests):
                task.requests.append(replace(self._request(each.request), until_ms=each.until_ms))
        for task in self._open.values():
            task.input = self._input_of(task)
            if ended:
                task.outcome = "cancelled"
        self._open.clear()  # what is given up from now on was not cancelled
        return tuple(map(_traced, self._tasks))

    def traced_error(self, error: WorkflowError) -> TracedError:
        """Return what is shown of an error."""
        texts = (error.type, error.title, error.instance, error.detail[:_MAX_DETAIL])
        type_, title, instance, detail = map(self._values.masked, texts)
        return TracedError(type_, error.status, title, instance, detail, self._response(error.response))

    def _response(self, response: FailedResponse | None) -> TracedResponse | None:
        """Return the response of an error, while there is room for its body."""
        if response is None or len(response.body) > self._response_room:
            return None
        self._response_room -= len(response.body)
        url, body = map(self._values.masked, (response.url, response.body))
        return TracedResponse(response.status, url, body, response.size)

    def _input_of(self, task: _Task) -> int:
        return self._values.add(task.scope.raw if task.scope.input is None else task.scope.input)

    def _task_of(self, key: str) -> _Task | None:
        """Return the task that made the request with a key; None: the workflow itself, or it is not traced."""
        return self._latest.get(key.rpartition("#")[0])

    def _request(self, request: ExternalRequest) -> TracedRequest:
        match request:
            case Perform(function=function, arguments=arguments, key=key):
                return TracedRequest(
                    {EMIT: "emit", RUN_WORKFLOW: "workflow"}.get(function, "call"),  # type: ignore[arg-type]
                    key,
                    function="" if function in (EMIT, RUN_WORKFLOW) else function,
                    arguments=self._values.add(arguments),
                    idempotency_key=idempotency_key(self._effect_scope, key) if self._effect_scope else "",
                )
            case Listen(key=key, filters=filters):
                types = tuple(sorted({each.type for each in filters if each.type and not each.callback}))
                callbacks = tuple(sorted({each.type for each in filters if each.callback}))
                return TracedRequest("listen", key, types=types, callbacks=callbacks)
            case AwaitCompletion(key=key, execution_id=execution_id):
                return TracedRequest("completion", key, execution_id=execution_id)
            case Sleep(key=key):
                return TracedRequest("retry" if key.endswith(":retry") else "wait", key)
            case WithTimeout(key=key):
                return TracedRequest("timeout", key)
            case GivenOutput(key=key):
                return TracedRequest("given_output", key)
        return TracedRequest("time", request.key)


def _is_same(known: TracedRequest, key: str) -> bool:
    return known.key == key and not known.answered


def _with_time(traced: TracedRequest, entry: JournalEntry) -> TracedRequest:
    """Return a wait with the time that an entry holds."""
    try:
        if holds_time(entry, "until"):
            return replace(traced, until_ms=time_of(entry, "until"))
        answered_ms = time_of(entry, "now" if holds_time(entry, "now") else "over")
    except TaskFault:
        return traced  # the interpreter reports it
    return replace(traced, answered=True, answered_ms=answered_ms)


def _execution_of(request: ExternalRequest, entry: JournalEntry) -> str:
    """Return the execution that a request started or awaited; empty: none."""
    if isinstance(request, AwaitCompletion):
        return request.execution_id
    if not isinstance(request, Perform) or request.function != RUN_WORKFLOW:
        return ""
    try:
        started = orjson.loads(entry.output or b"null")
    except orjson.JSONDecodeError:
        return ""
    found = started.get("execution") if isinstance(started, dict) else None
    return found if isinstance(found, str) else ""


def _traced(task: _Task) -> TracedTask:
    definition = task.node.definition
    own = {key: value for key, value in definition.items() if key not in _BLOCKS or isinstance(value, str)}
    return TracedTask(
        number=task.number,
        task=task.key,
        name=task.node.name,
        kind=kind_of(definition) or "",
        outcome=task.outcome,
        input=task.input or 0,
        output=task.output,
        context_before=task.context_before,
        context_after=task.context_after,
        then=task.then,
        tries=task.scope.tries,
        error=task.error,
        requests=tuple(task.requests),
        reads_secrets=mentions_secrets(own),
    )
