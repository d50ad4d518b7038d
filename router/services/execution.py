"""ExecutionService: queries and controls executions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from flowhook import held_results, ids, limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.model import Execution, ExecutionDetail
from flowhook.v1 import envelope_pb2, execution_service_pb2_grpc
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from router.admission import AdmissionControl
from router.dispatch.shard_runtime import ShardRuntime
from router.replay import resumption
from router.services import error_mapping
from router.services.body_streams import BodySender
from router.services.execution_lists import ExecutionLists
from router.storage.interface import Registry, ShardState
from router.storage.model import ExecutionRecord, NewEvent
from router.task_history import build_task_history

REPLAY_WINDOW_MS: Final = 24 * 3600 * 1000
"""Time for which a replay's `request_id` is deduplicated."""
MAX_REQUEST_ID: Final = 64
MAX_REASON: Final = 1000
"""Characters of the reason of a resolution."""


class ExecutionService(execution_service_pb2_grpc.ExecutionServiceServicer):
    """See protos/flowhook/v1/execution_service.proto."""

    def __init__(
        self,
        *,
        host: ShardRuntime,
        state: ShardState,
        admission: AdmissionControl,
        reads: BodySender,
        registry: Registry,
        now_ms: Callable[[], int],
    ) -> None:
        self._host = host
        self._commands, self._records = host.commands, host.executions
        self._state = state
        self._admission = admission
        self._reads = reads
        self._registry = registry
        self._now_ms = now_ms
        self._replaying = asyncio.Lock()
        self._lists = ExecutionLists(state, host.executions, admission)

    @error_mapping.rpc_method
    async def GetExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.GetExecutionRequest, context: error_mapping.Context
    ) -> pb.GetExecutionResponse:
        """Return one execution with its request and journal."""
        del context
        record = await self._records.find(request.execution_id)
        content = await self._state.content(record.seq)
        if content is None:
            raise _past_retention(record.id)
        return convert.detail_to_proto(
            ExecutionDetail(
                execution=_execution(record),
                event=convert.event_from_bytes(content.payload),
                journal=held_results.split_held(content.journal)[0],
                output=content.output,
                # on another thread: there may be thousands of entries
                history=await asyncio.to_thread(
                    build_task_history, await self._state.history(record.seq), ended=record.status.ended
                ),
                attributes=content.attributes,
            )
        )

    @error_mapping.rpc_method
    async def ListExecutions(  # noqa: N802 - the name of the RPC
        self, request: pb.ListExecutionsRequest, context: error_mapping.Context
    ) -> pb.ListExecutionsResponse:
        """Return a page of executions, newest first; it may be short when few of the records read qualify."""
        del context
        records, token = await self._lists.page(request)
        executions = [convert.execution_to_proto(_listed(record)) for record in records]
        return pb.ListExecutionsResponse(executions=executions, next_page_token=token)

    @error_mapping.rpc_method
    async def CountExecutions(  # noqa: N802 - the name of the RPC
        self, request: pb.CountExecutionsRequest, context: error_mapping.Context
    ) -> pb.CountExecutionsResponse:
        """Count executions, up to a limit."""
        del context
        return await self._lists.count(request)

    @error_mapping.rpc_method
    async def ScanEvents(  # noqa: N802 - the name of the RPC
        self, request: pb.ScanEventsRequest, context: error_mapping.Context
    ) -> pb.ScanEventsResponse:
        """Return a page of executions with their events, newest first."""
        del context
        records, token = await self._lists.page(request)
        return await self._lists.with_events([(record, _listed(record)) for record in records], token)

    @error_mapping.rpc_method
    async def WatchExecutions(  # type: ignore[override] # noqa: N802 - grpc.aio takes a coroutine that writes, too
        self, request: pb.WatchExecutionsRequest, context: error_mapping.Context
    ) -> None:
        """Stream executions as their status changes."""
        error_mapping.check_request_size(request)
        with self._host.watchers.watch(request.flow_id) as watcher:
            await context.write(pb.WatchExecutionsResponse())
            while True:
                record, missed = await watcher.next()
                execution = convert.execution_to_proto(_listed(record))
                await context.write(pb.WatchExecutionsResponse(execution=execution, missed=missed))

    @error_mapping.rpc_method
    async def ReplayExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.ReplayExecutionRequest, context: error_mapping.Context
    ) -> pb.ReplayExecutionResponse:
        """Start a new execution from the event of one that ended."""
        del context
        if not request.unless_replayed:
            return pb.ReplayExecutionResponse(execution=convert.execution_to_proto(await self._replay(request)))
        async with self._replaying:  # or two calls could both find no replay before either starts one
            return pb.ReplayExecutionResponse(execution=convert.execution_to_proto(await self._replay(request)))

    async def _replay(self, request: pb.ReplayExecutionRequest) -> Execution:
        if len(request.request_id) > MAX_REQUEST_ID or not request.request_id.isascii():
            raise InvalidError(
                f"`request_id` must have at most {MAX_REQUEST_ID} ASCII characters", reason="REQUEST_ID_INVALID"
            )
        original = await self._records.find(request.execution_id)
        if not original.status.ended:
            raise ConflictError(f"{original.id} has not ended: {original.status}", reason="EXECUTION_NOT_ENDED")
        # the space distinguishes it from senders' keys, which have visible characters only
        dedupe_key = f"replay {original.id} {request.request_id}" if request.request_id else ""
        if request.unless_replayed:
            if dedupe_key:
                now_ms = self._now_ms()
                earlier = await self._state.deduplicated(original.flow_id, dedupe_key, now_ms=now_ms)
                if earlier is not None:  # a retry of the same call, whose response was lost
                    return _execution(await self._records.find(earlier))
            _check_unsettled(original)
        content = await self._state.content(original.seq)
        if content is None:
            raise _past_retention(original.id)
        latest = request.revision == pb.ReplayExecutionRequest.REVISION_LATEST
        revision = await self._revision(original, latest=latest)
        from_failed = request.start == pb.ReplayExecutionRequest.START_FAILED_TASK
        resumes = resumption(original, content, revision) if from_failed else None
        event = envelope_pb2.Event.FromString(content.payload)
        event.id = ids.mint(ids.slot_of(original.flow_id))
        now_ms = self._now_ms()
        appended = await self._host.append(
            [
                NewEvent(
                    event.id,
                    original.flow_id,
                    revision,
                    now_ms,
                    event.SerializeToString(),
                    dedupe_key,
                    now_ms + REPLAY_WINDOW_MS,
                    original.id,
                    original.order_key,
                    resumes,
                    event.body_blob.id,
                    original.quiet,
                )
            ]
        )
        if appended[0].body_missing:
            raise _past_retention(original.id)
        return _execution(await self._records.find(appended[0].duplicate_of or event.id))

    @error_mapping.rpc_method
    async def ResolveExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.ResolveExecutionRequest, context: error_mapping.Context
    ) -> pb.ResolveExecutionResponse:
        """Mark a failed execution as resolved: nothing remains to be done about it."""
        del context
        if len(request.reason) > MAX_REASON:
            raise InvalidError(f"`reason` must have at most {MAX_REASON} characters", reason="REASON_TOO_LONG")
        record = await self._commands.resolve(request.execution_id, request.reason)
        return pb.ResolveExecutionResponse(execution=convert.execution_to_proto(_execution(record)))

    @error_mapping.rpc_method
    async def ReadBody(  # type: ignore[override] # noqa: N802 - grpc.aio takes a coroutine that writes, too
        self, request: pb.ReadBodyRequest, context: error_mapping.Context
    ) -> None:
        """Stream the body of the request that started an execution."""
        error_mapping.check_request_size(request)

        async def write(chunk: bytes) -> None:
            await context.write(pb.ReadBodyResponse(chunk=chunk))

        record = await self._records.find(request.execution_id)
        content = await self._state.content(record.seq)
        if content is None:
            raise _past_retention(record.id)
        await self._reads.whole(envelope_pb2.Event.FromString(content.payload), write)

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

    @error_mapping.rpc_method
    async def CancelExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.CancelExecutionRequest, context: error_mapping.Context
    ) -> pb.CancelExecutionResponse:
        """End an execution that has not ended."""
        del context
        record = await self._commands.cancel(request.execution_id)
        return pb.CancelExecutionResponse(execution=convert.execution_to_proto(_execution(record)))

    @error_mapping.rpc_method
    async def SuspendExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.SuspendExecutionRequest, context: error_mapping.Context
    ) -> pb.SuspendExecutionResponse:
        """Suspend an execution until it is resumed."""
        del context
        record = await self._commands.suspend(request.execution_id)
        return pb.SuspendExecutionResponse(execution=convert.execution_to_proto(_execution(record)))

    @error_mapping.rpc_method
    async def ResumeExecution(  # noqa: N802 - the name of the RPC
        self, request: pb.ResumeExecutionRequest, context: error_mapping.Context
    ) -> pb.ResumeExecutionResponse:
        """Resume a suspended execution."""
        del context
        record = await self._commands.resume(request.execution_id)
        return pb.ResumeExecutionResponse(execution=convert.execution_to_proto(_execution(record)))


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


def _execution(record: ExecutionRecord) -> Execution:
    return Execution(
        id=record.id,
        flow_id=record.flow_id,
        flow_revision=record.flow_revision,
        status=record.status,
        attempts=record.attempts,
        receive_time_ms=record.receive_time_ms,
        end_time_ms=record.end_time_ms,
        error=record.error,
        replay_of=record.replay_of,
        replayed_by=record.replayed_by,
        replayed=record.replayed,
        resolution=record.resolution,
    )


def _listed(record: ExecutionRecord) -> Execution:
    """Return an execution without the response of its error, which could make a page too large for a message."""
    error = record.error
    return _execution(record if error is None else record._replace(error=error.without_response()))


def _past_retention(execution_id: str) -> NotFoundError:
    return NotFoundError(f"{execution_id} is past retention", reason="EXECUTION_NOT_FOUND")
