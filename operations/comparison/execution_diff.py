"""Compares two executions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from flowhook.model import Event, ExecutionDetail, TaskRun, TaskState, WorkflowError
from operations.comparison.content_diff import ContentDiff, compare_content
from operations.encoding import header_texts

MAX_TASKS: Final = 500  # task runs that are listed side by side


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with different values; None where it is missing. Values of one name are joined by commas."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class TaskSide:
    """One run of a task. `duration`: in seconds; None: it has not ended, or unknown."""

    task: str
    state: TaskState
    detail: str
    tries: int
    duration: float | None


@dataclass(frozen=True, slots=True)
class TaskPair:
    """The task runs with the same index; None where an execution has no more. `same`: task, state and detail."""

    index: int
    same: bool
    first: TaskSide | None
    second: TaskSide | None


@dataclass(frozen=True, slots=True)
class ExecutionDiff:
    """The difference of two executions."""

    # flow, revision, status, attempts and duration in seconds, as far as they differ
    summary: tuple[FieldDifference, ...]
    request: tuple[FieldDifference, ...]  # method, path, content type and so on
    query: tuple[FieldDifference, ...]  # parameters of the query string
    # header fields; those that differ for every request by their nature are included
    headers: tuple[FieldDifference, ...]
    body: ContentDiff  # bodies of the requests
    output: ContentDiff  # outputs, as JSON
    error: tuple[FieldDifference, ...]  # members of the errors
    tasks: tuple[TaskPair, ...]  # task runs side by side
    diverges_at: int | None  # index of the first pair of task runs that is not the same; None if absent
    tasks_cut: bool  # whether there are more task runs than are listed


def compare_executions(
    first: ExecutionDetail, second: ExecutionDetail, first_body: bytes, second_body: bytes
) -> ExecutionDiff:
    """Return the difference of two executions, given also at least the first `MAX_COMPARED` + 1 bytes of their bodies.

    Blocking, for up to a second or two.
    """
    pairs = [
        TaskPair(index, _outcome(one) == _outcome(other), _side(one), _side(other))
        for index, (one, other) in enumerate(zip_longest(first.history, second.history))
    ]
    return ExecutionDiff(
        summary=_differences(_summary(first), _summary(second)),
        request=_differences(_request(first.event), _request(second.event)),
        query=_differences(_query(first.event.query), _query(second.event.query)),
        headers=_differences(header_texts(first.event.headers), header_texts(second.event.headers)),
        body=compare_content(first_body, second_body, sizes=(first.body_size, second.body_size)),
        output=compare_content(first.output or b"", second.output or b""),
        error=_differences(_error(first.execution.error), _error(second.execution.error)),
        tasks=tuple(pairs[:MAX_TASKS]),
        diverges_at=next((pair.index for pair in pairs if not pair.same), None),
        tasks_cut=len(pairs) > MAX_TASKS,
    )


def _differences(first: dict[str, str], second: dict[str, str]) -> tuple[FieldDifference, ...]:
    names = [*first, *(name for name in second if name not in first)]
    return tuple(
        FieldDifference(name, first.get(name), second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    )


def _summary(detail: ExecutionDetail) -> dict[str, str]:
    execution = detail.execution
    fields = {
        "flow": execution.flow_id,
        "revision": str(execution.flow_revision),
        "status": str(execution.status),
        "attempts": str(execution.attempts),
    }
    if execution.end_time_ms is not None:
        fields["duration"] = f"{(execution.end_time_ms - execution.receive_time_ms) / 1000:.3f}"
    return fields


def _request(event: Event) -> dict[str, str]:
    fields = {
        "method": event.method,
        "path": event.path,
        "content type": event.content_type,
        "authenticated by": " ".join(filter(None, event.principal or ())),
        "delivery": event.dedupe_key,
    }
    return {name: value for name, value in fields.items() if value}


def _query(query: str) -> dict[str, str]:
    fields = (field.partition("=") for field in query.split("&") if field)
    joined: dict[str, list[str]] = {}
    for name, _, value in fields:
        joined.setdefault(name, []).append(value)
    return {name: ", ".join(values) for name, values in joined.items()}


def _error(error: WorkflowError | None) -> dict[str, str]:
    return {} if error is None else {name: str(value) for name, value in error.as_dict().items() if value}


def _outcome(run: TaskRun | None) -> tuple[str, TaskState, str] | None:
    return None if run is None else (run.task, run.state, run.detail)


def _side(run: TaskRun | None) -> TaskSide | None:
    if run is None:
        return None
    known = run.begin_time_ms is not None and run.end_time_ms is not None
    duration = (run.end_time_ms - run.begin_time_ms) / 1000 if known else None  # type: ignore[operator]
    return TaskSide(run.task, run.state, run.detail, run.tries, duration)
