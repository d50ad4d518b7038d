"""Operations on single executions; `execution_list` finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import Field

from flowhook.client import AsyncClient
from flowhook.model import (
    Event,
    Execution,
    ExecutionDetail,
    Headers,
    Retry,
    Status,
    TaskState,
    WorkflowError,
    to_datetime,
)
from flowhook.model.executions import LinkedExecution, LinkKind
from flowhook.model.replays import ReplayOrigin
from operations.attempts import AttemptView, attempt_view
from operations.operation import Parameters


class ExecutionId(Parameters):
    """Parameters of operations on one execution."""

    execution_id: str
    """ID of the execution."""


class Resolve(ExecutionId):
    """Parameters of `resolve_execution`."""

    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why nothing is to be done any more."""


@dataclass(frozen=True, slots=True)
class FailedResponseView:
    """What was answered to a call that failed: the URL, the first 4 KiB of the body as text, and the size of all."""

    status: int
    url: str
    body: str
    size: int


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error of a workflow: a problem detail of RFC 9457. `response`: null in lists and if nothing was answered."""

    type: str
    status: int
    title: str
    instance: str
    detail: str
    response: FailedResponseView | None


@dataclass(frozen=True, slots=True)
class RetryView:
    """What failed in an execution that waits, and is tried again: how it failed last, and how often it was tried.

    `others`: number of other calls and `try` tasks of the execution that wait for a later try.
    """

    error: ErrorView
    tries: int
    next_at: datetime
    others: int


@dataclass(frozen=True, slots=True)
class ResolutionView:
    """An operator's decision that nothing is to be done any more."""

    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution."""

    id: str
    flow_id: str
    flow_revision: int
    status: Status
    attempts: int
    """How often a runner worked on it; 1 for one that ran undisturbed, however often its calls were tried."""
    received_at: datetime
    ended_at: datetime | None
    error: ErrorView | None
    replay_of: str
    replayed_by: str
    replayed: bool
    resolution: ResolutionView | None
    retry: RetryView | None
    """What is tried again; null unless it waits for that."""


@dataclass(frozen=True, slots=True)
class HeaderView:
    """A header field; what is not UTF-8 in its value is written with backslashes."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """The request that started an execution, without credentials; its body is read apart.

    `rejection_id` is that of the rejection after which an operator accepted it; empty: it was accepted at once.
    """

    method: str
    path: str
    query: str
    content_type: str
    headers: tuple[HeaderView, ...]
    authenticated_by: str
    origin: str
    """What made the event: `request`, `workflow` (a `run` task), `schedule` or `events`."""
    parent: str
    """ID of the execution that started this one, or whose event did; empty: none, or several did."""
    dedupe_key: str
    traceparent: str
    body_size: int
    rejection_id: str


@dataclass(frozen=True, slots=True)
class ReplayOriginView:
    """What a replay took over from the execution that it replays.

    Without `from_failed_task` and `task` it began at the beginning. `output_given`: the task was not performed.
    `edited_from`: ID of the execution whose request is edited here; empty: the request is as received.
    """

    from_failed_task: bool
    task: str
    output_given: bool
    edited_from: str


@dataclass(frozen=True, slots=True)
class TaskRunView:
    """One run of one task."""

    number: int
    task: str
    state: TaskState
    began_at: datetime | None
    ended_at: datetime | None
    tries: int
    detail: str


@dataclass(frozen=True, slots=True)
class JournalView:
    """The recorded result of a task that had an effect: its output, or its error."""

    key: str
    output: Any
    error: ErrorView | None


@dataclass(frozen=True, slots=True)
class AttributeView:
    """A search attribute."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class LinkedExecutionView:
    """An execution at the other end of a link."""

    id: str
    kinds: tuple[LinkKind, ...]
    """How one of the two caused the other: its `run` task or its event started it, or a `listen` got its event."""
    flow_id: str
    """Empty: the execution is past retention or was deleted."""
    status: Status | None


@dataclass(frozen=True, slots=True)
class LinksView:
    """The executions that caused one, and the newest ones that it caused, at most 20; both newest first.

    `more_caused`: there are more of these, which `list_executions` finds by `caused_by`.
    """

    causes: tuple[LinkedExecutionView, ...]
    caused: tuple[LinkedExecutionView, ...]
    more_caused: bool


class Delete(ExecutionId):
    """An execution that is deleted."""

    erase: bool = False
    """Erase its event for good: with the execution that it replays, all replays of the same event, what refers to them,
    and what is left of them in the free space of files."""
    cancel: bool = False
    """Cancel those that have not ended before."""


@dataclass(frozen=True, slots=True)
class DeletedExecutionsView:
    """Executions that were deleted, oldest first, and those linked with them, which may hold the same data.

    `erased_at`: when the event was erased; null: it was not. `purge_pending`: other routers and the replicated log
    still have what was erased, for about a minute.
    """

    execution_ids: tuple[str, ...]
    links: LinksView
    erased_at: datetime | None
    purge_pending: bool


@dataclass(frozen=True, slots=True)
class ExecutionDetailView:
    """An execution with all that is stored of it, but for its body."""

    execution: ExecutionView
    request: RequestView
    tasks: tuple[TaskRunView, ...]
    journal: tuple[JournalView, ...]
    output: Any
    attributes: tuple[AttributeView, ...]
    replay: ReplayOriginView | None
    links: LinksView
    attempts: tuple[AttemptView, ...]
    """Attempts that were interrupted, the newest 16 of them; then the one that ended it or is under way, if any."""
    attempts_left_out: int
    """Number of attempts before these that are not stored."""
    latest_revision: int
    """Of its flow; 0: the flow was deleted."""


async def get_execution(client: AsyncClient, parameters: ExecutionId) -> ExecutionDetailView:
    """Return an execution."""
    return detail_view(await client.executions.get(parameters.execution_id, max_body_bytes=0))


async def read_body(client: AsyncClient, parameters: ExecutionId) -> AsyncIterator[bytes]:
    """Return the body of the request that started an execution, byte for byte, in chunks."""
    return client.executions.body(parameters.execution_id)


async def cancel_execution(client: AsyncClient, parameters: ExecutionId) -> ExecutionView:
    """Cancel an execution and return it."""
    return view(await client.executions.cancel(parameters.execution_id))


async def delete_execution(client: AsyncClient, parameters: Delete) -> DeletedExecutionsView:
    """Delete an execution that has ended, or erase its event."""
    deleted = await client.executions.delete(parameters.execution_id, erase=parameters.erase, cancel=parameters.cancel)
    links = deleted.links
    return DeletedExecutionsView(
        deleted.execution_ids,
        LinksView(_linked(links.causes), _linked(links.caused), links.more_caused),
        None if deleted.erase_time_ms is None else to_datetime(deleted.erase_time_ms),
        deleted.purge_pending,
    )


async def suspend_execution(client: AsyncClient, parameters: ExecutionId) -> ExecutionView:
    """Suspend an execution and return it."""
    return view(await client.executions.suspend(parameters.execution_id))


async def resume_execution(client: AsyncClient, parameters: ExecutionId) -> ExecutionView:
    """Resume a suspended execution and return it."""
    return view(await client.executions.resume(parameters.execution_id))


async def retry_execution_now(client: AsyncClient, parameters: ExecutionId) -> ExecutionView:
    """Try again at once what failed in an execution that waits for its next try, and return the execution."""
    return view(await client.executions.retry_now(parameters.execution_id))


async def resolve_execution(client: AsyncClient, parameters: Resolve) -> ExecutionView:
    """Mark a failed execution as resolved, and return it."""
    return view(await client.executions.resolve(parameters.execution_id, parameters.reason))


def view(execution: Execution) -> ExecutionView:
    """Return what is shown of an execution in lists."""
    note = execution.resolution
    return ExecutionView(
        id=execution.id,
        flow_id=execution.flow_id,
        flow_revision=execution.flow_revision,
        status=execution.status,
        attempts=execution.attempts,
        received_at=execution.received_at,
        ended_at=execution.ended_at,
        error=_error(execution.error),
        replay_of=execution.replay_of,
        replayed_by=execution.replayed_by,
        replayed=execution.replayed,
        resolution=None if note is None else ResolutionView(note.reason, note.resolved_at),
        retry=_retry(execution.retry),
    )


def detail_view(detail: ExecutionDetail) -> ExecutionDetailView:
    """Return what is shown of one execution. Outputs are passed on as the JSON that they are: numbers stay verbatim."""
    return ExecutionDetailView(
        execution=view(detail.execution),
        request=_request(detail.event, detail.body_size),
        tasks=tuple(
            TaskRunView(
                number=run.number,
                task=run.task,
                state=run.state,
                began_at=None if run.begin_time_ms is None else to_datetime(run.begin_time_ms),
                ended_at=None if run.end_time_ms is None else to_datetime(run.end_time_ms),
                tries=run.tries,
                detail=run.detail,
            )
            for run in detail.history
        ),
        journal=tuple(JournalView(each.key, _json(each.output), _error(each.error)) for each in detail.journal),
        output=_json(detail.output),
        attributes=tuple(AttributeView(name, value) for name, value in detail.attributes),
        replay=_replay(detail.event.replay),
        links=LinksView(_linked(detail.links.causes), _linked(detail.links.caused), detail.links.more_caused),
        attempts=tuple(map(attempt_view, detail.attempts)),
        attempts_left_out=detail.attempts_left_out,
        latest_revision=detail.latest_revision,
    )


def _linked(linked: tuple[LinkedExecution, ...]) -> tuple[LinkedExecutionView, ...]:
    return tuple(LinkedExecutionView(each.id, each.kinds, each.flow_id, each.status) for each in linked)


def header_views(headers: Headers) -> tuple[HeaderView, ...]:
    """Return what is shown of header fields."""
    return tuple(HeaderView(name, value.decode("utf-8", "backslashreplace")) for name, value in headers)


def _request(event: Event, body_size: int) -> RequestView:
    return RequestView(
        method=event.method,
        path=event.path,
        query=event.query,
        content_type=event.content_type,
        headers=header_views(event.headers),
        origin=event.origin.name.lower(),
        parent=event.parent,
        authenticated_by=" ".join(filter(None, event.principal or ())),
        dedupe_key=event.dedupe_key,
        traceparent=event.traceparent,
        body_size=body_size,
        rejection_id=event.rejection_id,
    )


def _replay(replay: ReplayOrigin | None) -> ReplayOriginView | None:
    if replay is None:
        return None
    return ReplayOriginView(replay.from_failed_task, replay.task, replay.output_given, replay.edited_from)


def _error(error: WorkflowError | None) -> ErrorView | None:
    if error is None:
        return None
    return _known_error(error)


def _known_error(error: WorkflowError) -> ErrorView:
    response = None if error.response is None else FailedResponseView(*error.response)
    return ErrorView(error.type, error.status, error.title, error.instance, error.detail, response)


def _retry(retry: Retry | None) -> RetryView | None:
    if retry is None:
        return None
    return RetryView(_known_error(retry.error), retry.tries, retry.next_at, retry.others)


def _json(value: bytes | None) -> orjson.Fragment | None:
    return orjson.Fragment(value) if value else None
