"""Starts replays of executions, and says beforehand what they would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.events import ids
from flowhook.events.event_keys import EventKeys
from flowhook.events.workflow_input import takes_raw_body
from flowhook.model import Event, JournalEntry
from flowhook.model.replays import ReplayPreview
from flowhook.v1 import envelope_pb2
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.admission import AdmissionControl
from router.replay import from_failed_task, from_task
from router.replay.edited_input import check_edited, edit
from router.replay.preview import Preview
from router.replay.task_runs import LocatedRun, locate_runs
from router.storage.model import ExecutionContent, ExecutionRecord, NewEvent, Resumption
from router.storage.registry import Registry
from router.storage.shard_state import ShardState

REPLAY_WINDOW_MS: Final = 24 * 3600 * 1000
"""Time for which a replay's `request_id` is deduplicated."""
MAX_REQUEST_ID: Final = 64
MAX_TASK: Final = 4096
"""Characters of the task that a replay begins with."""

_Request = pb.ReplayExecutionRequest


class _Plan(NamedTuple):
    """What a replay is made of.

    Attributes:
        keys: those of an edited event; else the original's order key, while storage copies its search attributes.
        runs: tasks of the original; empty where they are not needed.
        cut: of the original's journal, for a replay from a given task.
    """

    original: ExecutionRecord
    content: ExecutionContent
    event: envelope_pb2.Event
    revision: int
    keys: EventKeys
    resumes: Resumption | None
    runs: tuple[LocatedRun, ...] = ()
    cut: from_task.Cut | None = None


class Replays:
    """Replays executions that ended."""

    def __init__(
        self,
        *,
        host: ShardRuntime,
        state: ShardState,
        admission: AdmissionControl,
        registry: Registry,
        now_ms: Callable[[], int],
    ) -> None:
        self._host = host
        self._records = host.executions
        self._state = state
        self._admission = admission
        self._registry = registry
        self._now_ms = now_ms
        self._replaying = asyncio.Lock()

    async def start(self, request: _Request, *, event_id: str = "") -> ExecutionRecord:
        """Start a new execution from the event of one that ended, and return it; see `ReplayExecution`.

        Args:
            request: what to replay, and how.
            event_id: ID of the new execution; empty: a new one. A second call with the same one starts none.

        Raises:
            FlowhookError: it can't be replayed in this way.
        """
        if not request.unless_replayed:
            return await self._start(request, event_id)
        async with self._replaying:  # or two calls could both find no replay before either starts one
            return await self._start(request, event_id)

    async def _start(self, request: _Request, event_id: str) -> ExecutionRecord:
        if len(request.request_id) > MAX_REQUEST_ID or not request.request_id.isascii():
            raise InvalidError(
                f"`request_id` must have at most {MAX_REQUEST_ID} ASCII characters", reason="REQUEST_ID_INVALID"
            )
        original = await self._ended(request)
        # the space distinguishes it from senders' keys, which have visible characters only
        dedupe_key = f"replay {original.id} {request.request_id}" if request.request_id else ""
        if request.unless_replayed:
            if dedupe_key:
                now_ms = self._now_ms()
                earlier = await self._state.deduplicated(original.flow_id, dedupe_key, now_ms=now_ms)
                if earlier is not None:  # a retry of the same call, whose response was lost
                    return await self._records.find(earlier)
            _check_unsettled(original)
        plan = await self._plan(request, original)
        event = plan.event
        event.id = event_id or event.id
        now_ms = self._now_ms()
        appended = await self._host.append(
            [
                NewEvent(
                    event.id,
                    original.flow_id,
                    plan.revision,
                    now_ms,
                    event.SerializeToString(),
                    dedupe_key,
                    now_ms + REPLAY_WINDOW_MS,
                    original.id,
                    plan.keys.order_key,
                    plan.resumes,
                    event.body_blob.id,
                    original.quiet,
                    plan.keys.attributes,
                    edited=request.HasField("input"),
                )
            ]
        )
        if appended[0].body_missing:
            raise past_retention(original.id)
        return await self._records.find(appended[0].duplicate_of or event.id)

    async def check(self, request: _Request, flow_id: str) -> None:
        """Check what can be checked of a request without an execution.

        Args:
            request: what is to be replayed in the same way.
            flow_id: flow of all executions; empty: there may be several.

        Raises:
            InvalidError: nothing can be replayed in this way.
            ExhaustedError: too much of the flow waits to be parsed (`OVERLOADED`).
        """
        _check_combination(request)
        if request.HasField("output"):
            await self._admission.check_output(flow_id, request.output)

    async def preview(self, request: _Request) -> ReplayPreview:
        """Return what a replay would do; see `PreviewReplay`.

        Raises:
            FlowhookError: as `start`.
        """
        original = await self._ended(request)
        if request.unless_replayed:
            _check_unsettled(original)
        plan = await self._plan(request, original)
        definition = await self._definition(original.flow_id, plan.revision)
        if not plan.runs:
            plan = plan._replace(runs=await self._runs(original.seq))
        preview = await asyncio.to_thread(_preview, request, plan, definition)
        return preview._replace(latest_revision=self._admission.latest_revision(original.flow_id))

    async def _ended(self, request: _Request) -> ExecutionRecord:
        original = await self._records.find(request.execution_id)
        if not original.status.ended:
            raise ConflictError(f"{original.id} has not ended: {original.status}", reason="EXECUTION_NOT_ENDED")
        return original

    async def _plan(self, request: _Request, original: ExecutionRecord) -> _Plan:
        """Check a request, and compute what the replay takes over."""
        _check_combination(request)
        content = await self._state.content(original.seq)
        if content is None:
            raise past_retention(original.id)
        latest = request.revision == _Request.REVISION_LATEST
        revision = await self._revision(original, latest=latest)
        event = envelope_pb2.Event.FromString(content.payload)
        event.id = ids.mint(ids.slot_of(original.flow_id))
        owner = event.replay.attachment_owner or original.effect_scope or original.id
        edited_from, taken_from = event.replay.edited_from, event.replay.attachment_owner
        event.replay.Clear()
        event.replay.edited_from = edited_from
        plan = _Plan(original, content, event, revision, EventKeys(original.order_key), None)
        resumes = _resumption(request, original, content, revision)
        if resumes is not None:
            event.replay.from_failed_task = True
            event.replay.attachment_owner = taken_from
            return plan._replace(resumes=resumes)
        if request.start == _Request.START_TASK:
            event.replay.task, event.replay.output_given = request.task, request.HasField("output")
            event.replay.attachment_owner = owner
            return await self._from_task(request, plan)
        event.replay.SetInParent()
        if request.HasField("input"):
            edited = edit(convert.event_from_proto(event), request.input, original.id)
            keys = await self._keys(edited, revision)
            return plan._replace(event=convert.event_to_proto(edited), keys=keys)
        return plan

    async def _from_task(self, request: _Request, plan: _Plan) -> _Plan:
        output = request.output if request.HasField("output") else None
        if output is not None:
            await self._admission.check_output(plan.original.flow_id, output)
        runs = await self._runs(plan.original.seq)

        def computed() -> _Plan:
            cut = from_task.cut_before(request.task, plan.original, plan.content, runs, plan.revision)
            resumes = from_task.resumption(request.task, cut, plan.content, runs, output)
            return plan._replace(resumes=resumes, runs=runs, cut=cut)

        return await asyncio.to_thread(computed)  # there may be thousands of entries

    async def _runs(self, seq: int) -> tuple[LocatedRun, ...]:
        return await asyncio.to_thread(locate_runs, await self._state.located_history(seq))

    async def _keys(self, edited: Event, revision: int) -> EventKeys:
        """Check an edited event, and return its order key and search attributes."""
        try:
            entry = await self._admission.flow(edited.flow_id)
        except NotFoundError:
            entry = None  # deleted: executions of one key may run at the same time
        definition = await self._definition(edited.flow_id, revision)
        return await self._admission.keys_of_edited(entry, edited, raw=takes_raw_body(definition))

    async def _definition(self, flow_id: str, revision: int) -> dict[str, Any]:
        flow = await self._registry.get_flow(flow_id, revision=revision)
        definition: dict[str, Any] = {} if flow is None else orjson.loads(flow.definition)
        return definition

    async def _revision(self, original: ExecutionRecord, *, latest: bool) -> int:
        """Return the revision that a replay runs.

        The revision of the original execution is stored as long as that execution, even if its flow is deleted.

        Raises:
            NotFoundError: the latest revision is requested and the flow is deleted (`FLOW_NOT_FOUND`).
            ExhaustedError: the backlog is full.
        """
        entry = await self._admission.flow(original.flow_id) if latest else self._admission.known(original.flow_id)
        limit = limits.DEFAULT_FLOW_BACKLOG if entry is None else entry.max_backlog
        self._admission.check_backlog(original.flow_id, limit)
        return entry.revision if latest and entry is not None else original.flow_revision


def _resumption(
    request: _Request, original: ExecutionRecord, content: ExecutionContent, revision: int
) -> Resumption | None:
    """Return what a replay from the failed task takes over; None: it starts elsewhere.

    Raises:
        ConflictError: it can't start there; see `from_failed_task.resumption`.
    """
    if request.start == _Request.START_FAILED_TASK:
        return from_failed_task.resumption(original, content, revision)
    if request.start != _Request.START_AUTO or request.HasField("input"):
        return None
    try:
        return from_failed_task.resumption(original, content, revision)
    except ConflictError as error:
        if error.reason in ("EXECUTION_NOT_FAILED", "NOTHING_TO_RUN_ANEW"):
            return None
        raise


def past_retention(execution_id: str) -> NotFoundError:
    """Return the error for an execution that is not stored any more."""
    return NotFoundError(f"{execution_id} is past retention", reason="EXECUTION_NOT_FOUND")


def _check_combination(request: _Request) -> None:
    """Check that the parts of a request are known, and go together.

    Raises:
        InvalidError: they do not, or a value is one of a newer version (`REPLAY_INVALID`), or is not acceptable.
    """
    for name, known in (("start", _Request.Start), ("revision", _Request.Revision)):
        if getattr(request, name) not in known.values():
            raise InvalidError(f"this router does not know the `{name}`", reason="REPLAY_INVALID")
    from_beginning = request.start in (_Request.START_UNSPECIFIED, _Request.START_BEGINNING, _Request.START_AUTO)
    if request.HasField("input") and not from_beginning:
        raise InvalidError(
            "an edited input changes what all tasks have seen: it needs a replay from the beginning",
            reason="EDIT_NOT_FROM_BEGINNING",
        )
    if request.start == _Request.START_TASK:
        if not request.task.startswith("/") or len(request.task) > MAX_TASK:
            raise InvalidError(
                f"name the task to begin with, in at most {MAX_TASK} characters, as the list of tasks shows it:"
                " /do/0/charge",
                reason="TASK_REQUIRED",
            )
    elif request.task or request.HasField("output"):
        raise InvalidError("`task` and `output` need START_TASK", reason="TASK_WITHOUT_START")
    if len(request.output) > limits.MAX_RESULT_BYTES:
        raise InvalidError(
            f"the output of a task must have at most {limits.MAX_RESULT_BYTES} bytes", reason="OUTPUT_TOO_LARGE"
        )
    check_edited(request.input)


def _check_unsettled(original: ExecutionRecord) -> None:
    """Check that a failed execution was neither replayed nor resolved.

    Raises:
        ConflictError: it was replayed already (`EXECUTION_REPLAYED`), or marked as resolved (`EXECUTION_RESOLVED`).
    """
    if original.replayed:
        raise ConflictError(
            f"{original.id} has already been replayed, as {original.replayed_by}", reason="EXECUTION_REPLAYED"
        )
    if original.resolution is not None:
        reason = original.resolution.reason
        said = f"{original.id} is marked as resolved{f': {reason}' if reason else ''}"
        raise ConflictError(said, reason="EXECUTION_RESOLVED")


def _preview(request: _Request, plan: _Plan, definition: Any) -> ReplayPreview:
    tasks, journal = Preview(definition, plan.runs), plan.content.journal
    if plan.resumes is None:
        again = tasks.again(0, 0, dropped=journal)
        return ReplayPreview(plan.revision, (), again, keeps_idempotency_keys=False)
    retained = plan.resumes.journal
    if plan.cut is not None:
        cut, first = plan.cut.position, plan.cut.number
    else:
        cut, first = _end_of(retained, plan.content), tasks.failed(plan.original.error)
    dropped = journal[cut - plan.content.journal_start :]
    again = tasks.again(first, cut, retained, task=request.task, dropped=dropped)
    return ReplayPreview(
        plan.revision,
        tasks.taken_over(retained, cut),
        again,
        keeps_idempotency_keys=bool(plan.resumes.effect_scope),
    )


def _end_of(retained: Sequence[JournalEntry], content: ExecutionContent) -> int:
    """Return the index after the last entry of a journal that is retained, not held: some before it may be left out."""
    indexes = {id(entry): index for index, entry in enumerate(content.journal, content.journal_start)}
    return max((indexes[id(entry)] + 1 for entry in retained if id(entry) in indexes), default=content.journal_start)
