"""Operations on single executions, replays of them included; `execution_list` finds them."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import orjson
from pydantic import Field

from flowhook import limits
from flowhook.errors import InvalidError, UnavailableError
from flowhook.model import (
    SNAPSHOT_KEY,
    Event,
    Execution,
    ExecutionDetail,
    JournalEntry,
    Part,
    Principal,
    Status,
    TaskRun,
    to_datetime,
)
from flowhook.model.execution_trace import MAX_BODY_BYTES, ExecutionTrace
from flowhook.model.executions import Attempt, DeletedExecutions, ExecutionLinks, LinkKind
from flowhook.model.jobs import MAX_REASON
from flowhook.model.replays import ReplayOptions, ReplayOrigin, ReplayPreview
from flowhook.tracing.context import trace_id_of
from operations.comparison import MAX_COMPARED, ExecutionDiff, compare_executions
from operations.encoding import header_texts, shown_fields, stored_json, to_json
from operations.flows import FlowPicture, draw_execution
from operations.operation import ParameterError, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

# end of the key of a journal entry that is not the result of a call
_MOMENT: Final = re.compile(r"(?::[a-z]+|(?:^| )/timeout#\d+)$")


class ExecutionId(Parameters):
    """Parameters of operations on one execution."""

    execution_id: str
    """ID of the execution."""


class Resolve(ExecutionId):
    """Parameters of `resolve_execution`."""

    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    """Why nothing is to be done any more."""


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
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
    principal: Principal | None
    origin: str  # what made the event: `request`, `workflow` (a `run` task), `schedule` or `events`
    parent: str  # ID of the execution that started this one, or whose event did; empty: none, or several did
    dedupe_key: str
    traceparent: str
    trace_id: str  # of the trace that `traceparent` belongs to; empty: none
    body_size: int
    rejection_id: str
    body: Any = None
    body_base64: str = ""
    parts: tuple[Part, ...] = ()


class Delete(ExecutionId):
    """An execution that is deleted."""

    erase: bool = False
    """Erase its event for good: with the execution that it replays, all replays of the same event, what refers to them,
    and what is left of them in the free space of files."""
    cancel: bool = False
    """Cancel those that have not ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion(DeletedExecutions):
    """Executions that were deleted, oldest first, and those linked with them, which may hold the same data.

    `erased_at`: when the event was erased; null: it was not. `purge_pending`: other routers and the replicated log
    still have what was erased, for about a minute.
    """

    id: str  # of the execution that was to be deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionDetailView(Execution):
    """An execution with all that is stored of it."""

    request: ExecutionRequest
    tasks: tuple[TaskRun, ...]
    # recorded results of tasks that had an effect
    journal: tuple[JournalEntry, ...]
    output: Any
    attributes: Mapping[str, str]  # search attributes
    replay: ReplayOrigin | None
    links: ExecutionLinks
    # attempts that were interrupted, the newest 16 of them; then the one that ended it or is under way, if any
    attempt_history: tuple[Attempt, ...]
    attempts_left_out: int  # number of attempts before these that are not stored
    latest_revision: int  # of its flow; 0: the flow was deleted


async def get_execution_picture(client: AsyncClient, parameters: ExecutionId) -> FlowPicture:
    """Draw the flow of an execution with the path that it took: counts, durations and states of its tasks."""
    detail = await client.executions.get(parameters.execution_id, max_body_bytes=0)
    return await draw_path(client, detail.execution, detail.history)


async def draw_path(client: AsyncClient, execution: Execution, runs: Sequence[TaskRun]) -> FlowPicture:
    """Return the picture of `get_execution_picture`, given what it reads of the execution.

    Raises:
        NotFoundError: the revision of the flow that it runs is not stored any more.
    """
    flow = await client.flows.get(execution.flow_id, revision=execution.flow_revision)
    completed = execution.status is Status.COMPLETED
    return FlowPicture(flow.revision, await draw_execution(flow, runs, completed=completed))


class GetExecution(ExecutionId):
    """Parameters of `get_execution`."""

    max_body: Annotated[int, Field(ge=0, le=limits.INLINE_BODY_BYTES)] = 0
    """Bytes that the request's body may have to be part of the answer; 0: it never is."""


async def get_execution(client: AsyncClient, parameters: GetExecution) -> ExecutionDetailView:
    """Get an execution with its request, its tasks and its output."""
    detail = await client.executions.get(parameters.execution_id, max_body_bytes=parameters.max_body)
    return detail_view(detail, with_body=bool(parameters.max_body) and detail.cut_body_size is None)


async def read_body(client: AsyncClient, parameters: ExecutionId) -> AsyncIterator[bytes]:
    """Read the body of the request that started an execution, byte for byte."""
    return client.executions.body(parameters.execution_id)


async def cancel_execution(client: AsyncClient, parameters: ExecutionId) -> Execution:
    """Cancel an execution that has not ended."""
    return await client.executions.cancel(parameters.execution_id)


async def delete_execution(client: AsyncClient, parameters: Delete) -> Deletion:
    """Delete an execution that has ended, or erase all that is stored of its event."""
    deleted = await client.executions.delete(parameters.execution_id, erase=parameters.erase, cancel=parameters.cancel)
    return Deletion(id=parameters.execution_id, **shown_fields(DeletedExecutions, deleted))


async def suspend_execution(client: AsyncClient, parameters: ExecutionId) -> Execution:
    """Suspend an execution that has not ended."""
    return await client.executions.suspend(parameters.execution_id)


async def resume_execution(client: AsyncClient, parameters: ExecutionId) -> Execution:
    """Resume a suspended execution."""
    return await client.executions.resume(parameters.execution_id)


async def retry_execution_now(client: AsyncClient, parameters: ExecutionId) -> Execution:
    """Try again at once what failed in an execution that waits for its next try."""
    return await client.executions.retry_now(parameters.execution_id)


async def resolve_execution(client: AsyncClient, parameters: Resolve) -> Execution:
    """Mark a failed execution as resolved."""
    return await client.executions.resolve(parameters.execution_id, parameters.reason)


def detail_view(detail: ExecutionDetail, *, with_body: bool = False) -> ExecutionDetailView:
    """Return what is shown of one execution. Outputs are passed on as the JSON that they are: numbers stay verbatim."""
    return ExecutionDetailView(
        **shown_fields(Execution, detail.execution),
        request=_request(detail.event, detail.body_size, with_body=with_body),
        tasks=detail.history,
        journal=tuple(
            replace(each, output=_output(each))
            for each in detail.journal
            if each.key != SNAPSHOT_KEY  # what the interpreter keeps for itself
        ),
        output=stored_json(detail.output),
        attributes=dict(detail.attributes),
        replay=detail.event.replay,
        links=detail.links,
        attempt_history=detail.attempts,
        attempts_left_out=detail.attempts_left_out,
        latest_revision=detail.latest_revision,
    )


def _output(entry: JournalEntry) -> bytes | None:
    """Return the output of a journal entry; a time in it is formatted as RFC 3339."""
    if not entry.output or _MOMENT.search(entry.key) is None:
        return entry.output
    output = orjson.loads(entry.output)
    if not isinstance(output, dict) or not output.keys() <= {"now", "until", "over", "early"}:
        return entry.output
    times = (None if value is None or isinstance(value, bool) else to_datetime(value) for value in output.values())
    return to_json({name: time or output[name] for name, time in zip(output, times, strict=True)})


def _request(event: Event, body_size: int, *, with_body: bool) -> ExecutionRequest:
    converted = {
        "headers": header_texts(event.headers),
        "origin": event.origin.name.lower(),
        "body_size": body_size,
        "trace_id": trace_id_of(event.traceparent),
    }
    body = {"body": None, "parts": (), **(_body(event) if with_body else {})}
    return ExecutionRequest(**{**shown_fields(ExecutionRequest, event), **converted, **body})


def _body(event: Event) -> dict[str, Any]:
    if event.body_blob is not None:
        from flowhook.events.workflow_input import stored_attachments  # noqa: PLC0415 - it reads bodies

        return {"body": stored_json(event.form), "parts": tuple(stored_attachments(event))}
    media_type = event.content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        with suppress(orjson.JSONDecodeError):
            return {"body": None if not event.body or orjson.loads(event.body) is None else stored_json(event.body)}
    try:
        return {"body": event.body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(event.body).decode()}


async def read_with_beginning(client: AsyncClient, execution_id: str, most: int) -> tuple[ExecutionDetail, bytes]:
    """Return an execution and the body of the request that started it, cut after more than `most` bytes.

    Raises:
        NotFoundError: there is no such execution.
    """
    detail = await client.executions.get(execution_id, max_body_bytes=most + 1)
    if detail.event.body_blob is None:
        return detail, detail.event.body
    return detail, await read_beginning(client, execution_id, most)


async def read_beginning(client: AsyncClient, execution_id: str, most: int) -> bytes:
    """Return the body of the request that started an execution, cut after more than `most` bytes."""
    body = bytearray()
    chunks = cast("AsyncGenerator[bytes, None]", client.executions.body(execution_id))
    async with aclosing(chunks):  # ends the call that sends the rest
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                break
    return bytes(body)


class DiffParameters(ExecutionId):
    """Parameters of `diff_executions`."""

    with_: Annotated[str, Field(alias="with")]
    """ID of the other execution."""


@dataclass(frozen=True, slots=True)
class ComparedExecutions:
    """Two executions and their difference."""

    first: Execution
    second: Execution
    diff: ExecutionDiff


async def diff_executions(client: AsyncClient, parameters: DiffParameters, tools: Tools) -> ComparedExecutions:
    """Compare two executions: requests, tasks and results."""
    async with tools.turn():  # a second of CPU time and 100 MiB
        (first, first_body), (second, second_body) = await asyncio.gather(
            read_with_beginning(client, parameters.execution_id, MAX_COMPARED),
            read_with_beginning(client, parameters.with_, MAX_COMPARED),
        )
        # pure Python code, which gives way to the event loop every 5 ms
        diff = await asyncio.to_thread(compare_executions, first, second, first_body, second_body)
    return ComparedExecutions(first.execution, second.execution, diff)


# bytes of a body that are read at once; a longer one is read once it is known that it is needed
SMALL_BODY: Final = 64 * limits.KIB


_ABSORBED: Final = frozenset({LinkKind.ABSORB, LinkKind.BATCH})


class TracedExecution(ExecutionId):
    """Parameters of `trace_execution`."""

    max_body: Annotated[int, Field(ge=0, le=limits.MAX_STREAMED_BODY_BYTES)] = limits.MAX_STREAMED_BODY_BYTES
    """Bytes of the body that are read at most, unless it is stored apart: a larger one has no trace."""


async def trace_execution(client: AsyncClient, parameters: TracedExecution, tools: Tools) -> ExecutionTrace:
    """Recompute the data of each task of an execution from its event and its journal, without performing any effect.

    Raises:
        NotFoundError: the execution, or its revision of the flow, is not stored any more.
        InvalidError: its body has more than `max_body` bytes (`BODY_NOT_READ`), or another execution runs for its event
            (`EXECUTION_ABSORBED`).
        UnavailableError: this process has no tracer (`TRACER_MISSING`).
        FlowhookError: see `Tracer.trace`.
    """
    if tools.tracer is None:
        raise UnavailableError("this process computes no traces", reason="TRACER_MISSING")
    name, most = parameters.execution_id, parameters.max_body
    detail = await client.executions.get(name, max_body_bytes=min(most, SMALL_BODY))
    for each in detail.links.caused if detail.execution.status.ended and not detail.execution.attempts else ():
        if not _ABSORBED.isdisjoint(each.kinds):
            raise InvalidError(f"it did not run: {each.id} runs for its event", reason="EXECUTION_ABSORBED")
    if detail.cut_body_size is not None or detail.execution.batch:
        _check_size(detail.cut_body_size or 0, most)
        detail = await client.executions.get(name)
        _check_size(sum(len(each.body) for each in (detail.event, *detail.event.batch)), most)
    flow = await client.flows.get(detail.execution.flow_id, revision=detail.execution.flow_revision)
    attached = _attached_bytes(detail.event, flow.definition)
    body = (await read_beginning(client, name, attached))[:attached] if attached else b""
    async with tools.turn():
        return await tools.tracer.trace(flow.definition, detail, body)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise InvalidError(
            f"it needs the body of the request, or those of its batch, which has {size} bytes, and max_body is {most}",
            reason="BODY_NOT_READ",
        )


def _attached_bytes(event: Event, definition: bytes) -> int:
    """Return how many bytes of a body that is stored apart have the attachments whose content is part of the input."""
    if event.body_blob is None:
        return 0
    from flowhook.events.workflow_input import (  # noqa: PLC0415 - it reads bodies, which no process needs to start
        inlined_indexes,
        stored_attachments,
        takes_raw_body,
    )

    parts = stored_attachments(event, raw=takes_raw_body(orjson.loads(definition)))
    ends = (parts[index].offset + parts[index].size for index in inlined_indexes(parts))
    return min(max(ends, default=0), MAX_BODY_BYTES)


class ReplayParameters(Parameters):
    """How an execution, or each of several, is replayed."""

    revision: Literal["pinned", "latest"] = "pinned"
    """Revision of the flow to run: the one that the execution ran, or the latest."""
    start: Literal["auto", "beginning", "failed_task", "task"] = "auto"
    """Where to begin: at the first task; at the one that failed; or at `task`, with the results of those before it.

    `auto`: at `task`, if one is named; else at the one that failed, and at the first one if the execution did not fail,
    if nothing would run anew, or with `body`.
    """
    task: Annotated[str, Field(max_length=4096)] = ""
    """Task to begin with, as the execution's list of tasks names it. Its first run counts."""
    output: bytes | None = None
    """Output of `task` as JSON: the task is not performed, and the flow continues after it."""
    body: bytes | None = None
    """Body instead of the stored one, from the beginning only."""
    content_type: str | None = None
    """Media type of `body`; absent: that of the stored request."""

    def options(self) -> ReplayOptions:
        """Return the options of the replay; raises ParameterError for options that exclude each other."""
        from_task = bool(self.task) if self.start == "auto" else self.start == "task"
        if from_task is not bool(self.task):
            raise _refused("task", "name a task together with start=task, and only then")
        if self.output is not None and not from_task:
            raise _refused("output", "it needs a task that has it")
        if self.body is not None and (from_task or self.start == "failed_task"):
            raise _refused("body", "it replaces what all tasks have seen, and needs a replay from the beginning")
        if self.content_type is not None and self.body is None:
            raise _refused("content_type", "it is that of a body, and none is given")
        return ReplayOptions(
            latest=self.revision == "latest",
            from_failed=self.start == "failed_task",
            from_task=self.task,
            output=_bytes(self.output),
            body=_bytes(self.body),
            content_type=self.content_type,
            auto=self.start == "auto" and not from_task,
        )


def _bytes(content: bytes | str | None) -> bytes | None:
    """Return content as bytes: that of a draft, which is shown again, is text."""
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content


def _refused(name: str, text: str) -> ParameterError:
    return ParameterError(f"{name}: {text}", {name: text})


class ReplayChoice(ReplayParameters, ExecutionId):
    """Parameters of `preview_replay`."""


class Replay(ReplayChoice):
    """Parameters of `replay_execution`."""

    request_id: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")] = ""
    """Idempotency key: calls with the same one start one execution."""
    unless_replayed: bool = False
    """Refuse an execution that was replayed successfully or is being replayed, or that is resolved."""


async def replay_execution(client: AsyncClient, parameters: Replay) -> Execution:
    """Start a new execution from the stored request of one that ended."""
    return await client.executions.replay(
        parameters.execution_id,
        parameters.options(),
        request_id=parameters.request_id,
        unless_replayed=parameters.unless_replayed,
    )


async def preview_replay(client: AsyncClient, parameters: ReplayChoice) -> ReplayPreview:
    """Say which tasks a replay would take over and which would run again; start nothing."""
    return await client.executions.preview_replay(parameters.execution_id, parameters.options())
