"""Records the tasks of a trace: an observer of the interpreter, and of the answers in the journal.

A trace is shown to people: it has placeholders for the values of secrets.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.document.definition import kind_of
from flowhook.model import FailedResponse, JournalEntry, WorkflowError
from flowhook.model.execution_trace import (
    MAX_BYTES,
    MAX_TASKS,
    MAX_VALUE_BYTES,
    TracedRequest,
    TracedTask,
    TracedValue,
)
from flowhook.security import callback_tokens
from runner.interpreter import json_codec
from runner.interpreter.effects import EMIT, RUN_WORKFLOW, Perform, idempotency_key
from runner.interpreter.errors import TaskFault
from runner.interpreter.fibers import PendingRequest
from runner.interpreter.journal import holds_time, time_of
from runner.interpreter.requests import AwaitCompletion, ExternalRequest, GivenOutput, Listen, Now, Sleep, WithTimeout
from runner.interpreter.scope import ExpressionScope
from runner.interpreter.tracing import Observation, TaskStart
from runner.tracing.comparisons import text_comparisons

_TOO_DEEP: Final = '"(nested too deeply)"'
PLACEHOLDER: Final = "•••"
# members of a secret that a policy of `authentication` uses by its name
_CREDENTIALS: Final[Mapping[str, Any]] = {
    "username": PLACEHOLDER,
    "password": PLACEHOLDER,
    "token": PLACEHOLDER,
    "client": {"id": PLACEHOLDER, "secret": PLACEHOLDER},
}
_MENTION: Final = re.compile(r"\$\s*secrets\b")
_NAME: Final = r"(?:\.(?:\\?\"{name}\\?\"|{name})|\[\\?\"{name}\\?\"\])"
_FIELD: Final = re.compile(r"\.([A-Za-z_]\w*)|\[\\?\"([^\"\\\]]+)\\?\"\]")
CPU_SECONDS: Final = 1.5  # CPU time after which a trace ends with the tasks that it has, before its process is killed
_BLOCKS: Final = frozenset({"do", "for", "fork", "try", "catch", "foreach"})  # keys of a task that contain other tasks
_MAX_DETAIL: Final = 4000  # characters of the detail of an error
# characters of all bodies of responses of errors: a call that is tried again may have thousands
_MAX_RESPONSES: Final = 256 * limits.KIB


class ValueTable:
    """Values by index. Tokens of one-time URLs are masked in all of them: anyone who has one may use it."""

    def __init__(self) -> None:
        self.values: list[TracedValue] = []  # in the order in which they were added
        # by identity, the value (so that the identity is not used again) and its index
        self._known: dict[int, tuple[Any, int]] = {}
        self._by_digest: dict[bytes, int] = {}
        self._bytes = 0

    def add(self, value: Any) -> int:
        """Add a value, unless it was added before, and return its index."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        try:
            text = json_codec.encode(value).decode("utf-8", "replace")
        except TaskFault:
            text = _TOO_DEEP
        index = self.add_text(text)
        self._known[id(value)] = (value, index)
        return index

    def add_json(self, value: bytes) -> int:
        """Add a value that is JSON already, and return its index."""
        return self.add_text(value.decode("utf-8", "replace"))

    def add_text(self, text: str) -> int:
        """Add the JSON text of a value, unless it was added before, and return its index."""
        text = callback_tokens.mask(text)
        data = text.encode()
        digest = hashlib.blake2b(data).digest()
        known = self._by_digest.get(digest)
        if known is not None:
            return known
        self._by_digest[digest] = len(self.values)
        kept = data[:MAX_VALUE_BYTES]
        if self._bytes + len(kept) > MAX_BYTES:
            kept = b""
        self._bytes += len(kept)
        cut = len(kept) < len(data)
        self.values.append(TracedValue(kept.decode("utf-8", "ignore") if cut else text, len(data), cut))
        return len(self.values) - 1


def mentions_secrets(definition: Any) -> bool:
    """Whether an expression in a definition mentions `$secrets`, or a policy in it names a secret."""
    return any(_MENTION.search(text) for text in _texts(definition)) or any(True for _ in _uses(definition))


def placeholders(names: Iterable[str], definition: Any) -> dict[str, Any]:
    """Return the flow's `$secrets` with placeholders: a text, or an object with the members that the flow reads."""
    text = orjson.dumps(definition).decode()
    used = frozenset(_uses(definition))
    return {name: _placeholder(name, text, is_policy=name in used) for name in names}


def _placeholder(name: str, text: str, *, is_policy: bool) -> Any:
    value: dict[str, Any] = dict(_CREDENTIALS) if is_policy else {}
    for match in re.finditer(r"\$\s*secrets" + _NAME.format(name=re.escape(name)) + r"(?![\w-])", text):
        place, position = value, match.end()
        fields = []
        while field := _FIELD.match(text, position):
            fields.append(field[1] or field[2])
            position = field.end()
        for each in fields[:-1]:
            inner = place.get(each)
            place[each] = place = dict(inner) if isinstance(inner, Mapping) else {}
        if fields:
            place.setdefault(fields[-1], PLACEHOLDER)
    return value or PLACEHOLDER


def _uses(value: Any) -> Iterator[str]:
    """Yield the names of secrets that policies of `authentication` use."""
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("use"), str):
            yield item["use"]
        yield from _uses(item)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _texts(item)


class TraceLimitError(Exception):
    """The trace has reached a limit; it holds all up to here."""


@dataclass(slots=True)
class _Task:
    """A task run, whose tries and requests are added in the end."""

    traced: TracedTask
    scope: ExpressionScope
    requests: list[TracedRequest] = field(default_factory=list)

    def update(self, **changes: Any) -> None:
        self.traced = replace(self.traced, **changes)


class TraceRecorder:
    """Records tasks in the order in which they begin (`runner.interpreter.tracing.Observer`)."""

    def __init__(self, values: ValueTable, effect_scope: str) -> None:
        """Record values in `values`; `effect_scope` is the first part of idempotency keys, empty if unknown."""
        self._values = values
        self._effect_scope = effect_scope
        self._tasks: list[_Task] = []
        self._open: dict[int, _Task] = {}
        self._latest: dict[str, _Task] = {}  # the latest run of each task, by key
        self._response_room = _MAX_RESPONSES
        self._ends_at = time.process_time() + CPU_SECONDS

    def task_started(self, started: TaskStart) -> None:
        """Record a task; `TraceLimitError` if there are too many, or they took too long."""
        if len(self._tasks) >= MAX_TASKS or time.process_time() > self._ends_at:
            raise TraceLimitError
        definition = started.node.definition
        own = {key: value for key, value in definition.items() if key not in _BLOCKS or isinstance(value, str)}
        traced = TracedTask(
            number=started.number,
            task=started.key,
            name=started.node.name,
            kind=kind_of(definition) or "",
            outcome="unfinished",
            input=0,
            output=None,
            context_before=self._values.add(started.context),
            context_after=None,
            then="",
            tries=0,
            error=None,
            requests=(),
            reads_secrets=mentions_secrets(own),
        )
        task = _Task(traced, started.scope)
        self._tasks.append(task)
        self._open[started.number] = self._latest[started.key] = task

    def task_ended(self, seen: Observation) -> None:
        task = self._open.pop(seen.number)
        values = self._values
        notes = text_comparisons(seen.node.definition, seen.scope)
        task.update(input=values.add(seen.input), context_after=values.add(seen.context), then=seen.then, notes=notes)
        if seen.error is not None:
            task.update(outcome="faulted", error=self.traced_error(seen.error))
        else:
            task.update(outcome="skipped" if seen.skipped else "completed", output=values.add(seen.output))

    def task_cancelled(self, number: int) -> None:
        """Record that a task was cancelled, by a timeout or because another branch ended the fork."""
        task = self._open.pop(number, None)
        if task is not None:
            task.update(outcome="cancelled", input=self._input_of(task))

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
        """Return the tasks, with the `pending` requests that the journal does not answer.

        If the workflow `ended`, the tasks that did not were cancelled.
        """
        for each in pending:
            task = self._task_of(each.request.key)
            key = each.request.key
            if task is not None and not any(known.key == key and not known.answered for known in task.requests):
                task.requests.append(replace(self._request(each.request), until_ms=each.until_ms))
        for task in self._open.values():
            task.update(input=self._input_of(task), outcome="cancelled" if ended else "unfinished")
        self._open.clear()  # what is given up from now on was not cancelled
        return tuple(
            replace(task.traced, tries=task.scope.tries, requests=tuple(task.requests)) for task in self._tasks
        )

    def traced_error(self, error: WorkflowError) -> WorkflowError:
        texts = (error.type, error.title, error.instance, error.detail[:_MAX_DETAIL])
        type_, title, instance, detail = map(callback_tokens.mask, texts)
        return WorkflowError(type_, error.status, title, instance, detail, self._response(error.response))

    def _response(self, response: FailedResponse | None) -> FailedResponse | None:
        """Return the response of an error, while there is room for its body."""
        if response is None or len(response.body) > self._response_room:
            return None
        self._response_room -= len(response.body)
        url, body = map(callback_tokens.mask, (response.url, response.body))
        return FailedResponse(response.status, url, body, response.size)

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


def _with_time(traced: TracedRequest, entry: JournalEntry) -> TracedRequest:
    try:
        if holds_time(entry, "until"):
            return replace(traced, until_ms=time_of(entry, "until"))
        answered_ms = time_of(entry, "now" if holds_time(entry, "now") else "over")
    except TaskFault:
        return traced  # the interpreter reports it
    return replace(traced, answered=True, answered_ms=answered_ms)


def _execution_of(request: ExternalRequest, entry: JournalEntry) -> str:
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
