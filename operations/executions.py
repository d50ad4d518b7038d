"""Operations on single executions; `execution_list` finds them."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from pydantic import Field

from flowhook import limits
from flowhook.model import (
    SNAPSHOT_KEY,
    Event,
    Execution,
    ExecutionDetail,
    Headers,
    JournalEntry,
    Part,
    Retry,
    Status,
    TaskState,
    WorkflowError,
    to_datetime,
)
from flowhook.model.executions import LinkedExecution, LinkKind
from flowhook.model.replays import ReplayOrigin
from operations.attempts import AttemptView, attempt_view
from operations.operation import Parameters, shown_fields

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


_MOMENT: Final = re.compile(r"(?::[a-z]+|(?:^| )/timeout#\d+)$")
"""End of the key of a journal entry that is not the result of a call."""


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
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution."""

    id: str
    flow_id: str
    flow_revision: int
    status: Status
    received_at: datetime
    ended_at: datetime | None
    attempts: int
    """How often a runner worked on it; 1 for one that ran undisturbed, however often its calls were tried."""
    error: ErrorView | None
    replay_of: str
    replayed_by: str
    replayed: bool
    resolution: ResolutionView | None
    retry: RetryView | None
    """What is tried again; null unless it waits for that."""


@dataclass(frozen=True, slots=True)
class PrincipalView:
    """What authenticated a sender: the kind of `auth`, and the name of the secret that matched, if any."""

    scheme: str
    secret: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """The request that started an execution, without credentials.

    `headers`: the values of a repeated one are joined by commas (RFC 9110, section 5.3); what is not UTF-8 is written
    with backslashes. `principal`: what authenticated the sender; null: nothing did. `rejection_id` is that of the
    rejection after which an operator accepted it; empty: it was accepted at once. `body` is parsed if it is JSON, else
    text, and null unless it was asked for; one that is neither is in `body_base64`. Of a body that is stored apart it
    has the fields of a form, and `parts` the attachments.
    """

    method: str
    path: str
    query: str
    content_type: str
    headers: Mapping[str, str]
    principal: PrincipalView | None
    origin: str
    """What made the event: `request`, `workflow` (a `run` task), `schedule` or `events`."""
    parent: str
    """ID of the execution that started this one, or whose event did; empty: none, or several did."""
    dedupe_key: str
    traceparent: str
    body_size: int
    rejection_id: str
    body: Any = None
    body_base64: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayOriginView:
    """What a replay took over from the execution that it replays.

    `start`: where it began: `beginning`, `failed_task` or `task`. `output_given`: `task` was not performed.
    `edited_from`: ID of the execution whose request is edited here; empty: the request is as received.
    """

    start: str
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

    id: str
    """Of the execution that was to be deleted."""
    execution_ids: tuple[str, ...]
    links: LinksView
    erased_at: datetime | None
    purge_pending: bool


@dataclass(frozen=True, slots=True)
class ExecutionDetailView(ExecutionView):
    """An execution with all that is stored of it."""

    request: RequestView
    tasks: tuple[TaskRunView, ...]
    journal: tuple[JournalView, ...]
    output: Any
    attributes: Mapping[str, str]
    """Search attributes."""
    replay: ReplayOriginView | None
    links: LinksView
    attempt_history: tuple[AttemptView, ...]
    """Attempts that were interrupted, the newest 16 of them; then the one that ended it or is under way, if any."""
    attempts_left_out: int
    """Number of attempts before these that are not stored."""
    latest_revision: int
    """Of its flow; 0: the flow was deleted."""


class GetExecution(ExecutionId):
    """Parameters of `get_execution`."""

    max_body: Annotated[int, Field(ge=0, le=limits.INLINE_BODY_BYTES)] = 0
    """Bytes that the request's body may have to be part of the answer; 0: it never is."""


async def get_execution(client: AsyncClient, parameters: GetExecution) -> ExecutionDetailView:
    """Return an execution."""
    detail = await client.executions.get(parameters.execution_id, max_body_bytes=parameters.max_body)
    return detail_view(detail, with_body=bool(parameters.max_body) and detail.cut_body_size is None)


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
        parameters.execution_id,
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


def detail_view(detail: ExecutionDetail, *, with_body: bool = False) -> ExecutionDetailView:
    """Return what is shown of one execution. Outputs are passed on as the JSON that they are: numbers stay verbatim."""
    return ExecutionDetailView(
        **shown_fields(view(detail.execution)),
        request=_request(detail.event, detail.body_size, with_body=with_body),
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
        journal=tuple(
            JournalView(each.key, _output(each), _error(each.error))
            for each in detail.journal
            if each.key != SNAPSHOT_KEY  # what the interpreter keeps for itself
        ),
        output=_json(detail.output),
        attributes=dict(detail.attributes),
        replay=_replay(detail.event.replay),
        links=LinksView(_linked(detail.links.causes), _linked(detail.links.caused), detail.links.more_caused),
        attempt_history=tuple(map(attempt_view, detail.attempts)),
        attempts_left_out=detail.attempts_left_out,
        latest_revision=detail.latest_revision,
    )


def _output(entry: JournalEntry) -> Any:
    """Return the output of a journal entry; a time in it is formatted as RFC 3339."""
    if not entry.output or _MOMENT.search(entry.key) is None:
        return _json(entry.output)
    output = orjson.loads(entry.output)
    if not isinstance(output, dict) or not output.keys() <= {"now", "until", "over", "early"}:
        return _json(entry.output)
    return {
        name: value if value is None or isinstance(value, bool) else to_datetime(value)
        for name, value in output.items()
    }


def _linked(linked: tuple[LinkedExecution, ...]) -> tuple[LinkedExecutionView, ...]:
    return tuple(LinkedExecutionView(each.id, each.kinds, each.flow_id, each.status) for each in linked)


def header_texts(headers: Headers) -> dict[str, str]:
    """Return header fields by name."""
    texts: dict[str, str] = {}
    for name, value in headers:
        text = value.decode("utf-8", "backslashreplace")
        texts[name] = f"{texts[name]}, {text}" if name in texts else text
    return texts


def _request(event: Event, body_size: int, *, with_body: bool) -> RequestView:
    principal = event.principal
    body: dict[str, Any] = _body(event) if with_body else {}
    return RequestView(
        method=event.method,
        path=event.path,
        query=event.query,
        content_type=event.content_type,
        headers=header_texts(event.headers),
        principal=None if principal is None else PrincipalView(principal.scheme, principal.secret),
        origin=event.origin.name.lower(),
        parent=event.parent,
        dedupe_key=event.dedupe_key,
        traceparent=event.traceparent,
        body_size=body_size,
        rejection_id=event.rejection_id,
        **body,
    )


def _body(event: Event) -> dict[str, Any]:
    if event.body_blob is not None:
        from flowhook.events.workflow_input import stored_attachments  # noqa: PLC0415 - it reads bodies

        return {"body": _json(event.form), "parts": tuple(stored_attachments(event))}
    media_type = event.content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        with suppress(orjson.JSONDecodeError):
            return {"body": None if not event.body or orjson.loads(event.body) is None else _json(event.body)}
    try:
        return {"body": event.body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(event.body).decode()}


def _replay(replay: ReplayOrigin | None) -> ReplayOriginView | None:
    if replay is None:
        return None
    start = "task" if replay.task else "failed_task" if replay.from_failed_task else "beginning"
    return ReplayOriginView(start, replay.task, replay.output_given, replay.edited_from)


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
