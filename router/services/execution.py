"""ExecutionService: queries and controls executions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.model.executions import DeletedExecutions
from flowhook.model.jobs import MAX_REASON
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.v1 import execution_service_pb2_grpc
from flowhook.wire.mapping import from_proto, to_proto
from router.bodies.body_streams import BodySender
from router.calls.error_mapping import Write, check_request_id, server_stream_rpc, unary_rpc
from router.dispatch.shard_runtime import ShardRuntime
from router.executions.reading import MAX_CAUSED, ExecutionReader, past_retention
from router.jobs.removal import ExecutionRemoval
from router.replay.replays import Replays
from router.storage.model import ExecutionRecord

MAX_TASK: Final = 4096  # characters of the task that a replay begins with
MAX_EDITED_BYTES: Final = 1 * limits.MIB  # size of an edited body
MAX_CONTENT_TYPE: Final = 256  # characters of its media type
_Request = pb.ReplayExecutionRequest


@attrs.define(eq=False, repr=False, kw_only=True)
class ExecutionService(execution_service_pb2_grpc.ExecutionServiceServicer):
    """See protos/flowhook/v1/execution_service.proto."""

    _runtime: ShardRuntime
    _reader: ExecutionReader
    _body_sender: BodySender
    _replays: Replays
    _removal: ExecutionRemoval
    _replicated: bool  # whether other routers, and a log, have what is erased for some time

    @unary_rpc
    async def GetExecution(self, request: pb.GetExecutionRequest) -> pb.GetExecutionResponse:
        limit = request.max_body_bytes if request.HasField("max_body_bytes") else None
        if limit is not None and limit < 0:
            raise InvalidError("`max_body_bytes` must be at least 0", reason="BODY_LIMIT_INVALID")
        detail = await self._reader.detail(request.execution_id, max_body_bytes=limit)
        return to_proto(detail, pb.GetExecutionResponse)

    @unary_rpc
    async def ListExecutions(self, request: pb.ListExecutionsRequest) -> pb.ListExecutionsResponse:
        records, token = await self._reader.page(request)
        executions = [to_proto(listed(record), pb.Execution) for record in records]
        return pb.ListExecutionsResponse(executions=executions, next_page_token=token)

    @unary_rpc
    async def CountExecutions(self, request: pb.CountExecutionsRequest) -> pb.CountExecutionsResponse:
        return await self._reader.count(request)

    @unary_rpc
    async def ScanEvents(self, request: pb.ScanEventsRequest) -> pb.ScanEventsResponse:
        records, token = await self._reader.page(request)
        return await self._reader.with_events([(record, listed(record)) for record in records], token)

    @server_stream_rpc
    async def WatchExecutions(self, request: pb.WatchExecutionsRequest, write: Write) -> None:
        with self._runtime.watchers.watch(request.flow_id) as watcher:
            await write(pb.WatchExecutionsResponse())
            while True:
                record, missed = await watcher.next()
                execution = to_proto(listed(record), pb.Execution)
                await write(pb.WatchExecutionsResponse(execution=execution, missed=missed))

    @unary_rpc
    async def ReplayExecution(self, request: pb.ReplayExecutionRequest) -> pb.ReplayExecutionResponse:
        options = read_options(request)
        check_request_id(request.request_id)
        record = await self._replays.start(
            request.execution_id, options, request_id=request.request_id, unless_replayed=request.unless_replayed
        )
        return pb.ReplayExecutionResponse(execution=to_proto(record, pb.Execution))

    @unary_rpc
    async def PreviewReplay(self, request: pb.PreviewReplayRequest) -> pb.PreviewReplayResponse:
        replay = request.replay
        preview = await self._replays.preview(
            replay.execution_id, read_options(replay), unless_replayed=replay.unless_replayed
        )
        return to_proto(preview, pb.PreviewReplayResponse)

    @unary_rpc
    async def ResolveExecution(self, request: pb.ResolveExecutionRequest) -> pb.ResolveExecutionResponse:
        if len(request.reason) > MAX_REASON:
            raise InvalidError(f"`reason` must have at most {MAX_REASON} characters", reason="REASON_TOO_LONG")
        await self._runtime.commands.resolve(request.execution_id, request.reason)
        return pb.ResolveExecutionResponse(execution=await self._current(request.execution_id))

    @server_stream_rpc
    async def ReadBody(self, request: pb.ReadBodyRequest, write: Write) -> None:
        record = await self._runtime.executions.find(request.execution_id)
        if not await self._body_sender.whole(record.seq, lambda chunk: write(pb.ReadBodyResponse(chunk=chunk))):
            raise past_retention(record.id)

    @unary_rpc
    async def CancelExecution(self, request: pb.CancelExecutionRequest) -> pb.CancelExecutionResponse:
        await self._runtime.commands.cancel(request.execution_id)
        return pb.CancelExecutionResponse(execution=await self._current(request.execution_id))

    @unary_rpc
    async def DeleteExecution(self, request: pb.DeleteExecutionRequest) -> pb.DeleteExecutionResponse:
        """Delete an execution, or erase all that is stored of it; the answer has its links to other executions."""
        links = await self._reader.links(request.execution_id)
        if not request.erase:
            if request.cancel and not (await self._runtime.executions.find(request.execution_id)).status.ended:
                await self._runtime.commands.cancel(request.execution_id)
            await self._removal.delete(request.execution_id)
            deleted = DeletedExecutions((request.execution_id,), links)
            return to_proto(deleted, pb.DeleteExecutionResponse)
        erasure = await self._removal.erase(
            request.execution_id, cancel=request.cancel, now_ms=self._runtime.parts.now_ms()
        )
        for other in erasure.execution_ids:  # what they caused still names them
            if other != request.execution_id:
                more = await self._reader.links(other)
                links = links.merged(more, most_caused=MAX_CAUSED)
        erased = frozenset(erasure.execution_ids)  # what ran for its batch is, with it
        causes, caused = (tuple(each for each in part if each.id not in erased) for part in links[:2])
        links = links._replace(causes=causes, caused=caused)
        deleted = DeletedExecutions(erasure.execution_ids, links, erasure.time_ms, self._replicated)
        return to_proto(deleted, pb.DeleteExecutionResponse)

    @unary_rpc
    async def SuspendExecution(self, request: pb.SuspendExecutionRequest) -> pb.SuspendExecutionResponse:
        await self._runtime.commands.suspend(request.execution_id)
        return pb.SuspendExecutionResponse(execution=await self._current(request.execution_id))

    @unary_rpc
    async def RetryExecutionNow(self, request: pb.RetryExecutionNowRequest) -> pb.RetryExecutionNowResponse:
        await self._runtime.commands.retry_now(request.execution_id)
        return pb.RetryExecutionNowResponse(execution=await self._current(request.execution_id))

    @unary_rpc
    async def ResumeExecution(self, request: pb.ResumeExecutionRequest) -> pb.ResumeExecutionResponse:
        await self._runtime.commands.resume(request.execution_id)
        return pb.ResumeExecutionResponse(execution=await self._current(request.execution_id))

    async def _current(self, execution_id: str) -> pb.Execution:
        return to_proto(await self._runtime.executions.find(execution_id), pb.Execution)


def listed(record: ExecutionRecord) -> ExecutionRecord:
    """Return an execution for a list, without the response of its error: pages must fit into a message."""
    if record.error is not None:
        record = replace(record, error=record.error.without_response())
    if record.retry is not None:
        record = replace(record, retry=record.retry._replace(error=record.retry.error.without_response()))
    return record


def read_options(request: _Request) -> ReplayOptions:
    """Return the options of a request, having checked that they are known, and go together."""
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
    if len(request.input.body) > MAX_EDITED_BYTES:
        raise InvalidError(f"an edited body must have at most {MAX_EDITED_BYTES} bytes", reason="BODY_TOO_LARGE")
    media_type = request.input.content_type
    if len(media_type) > MAX_CONTENT_TYPE or not media_type.isascii() or not media_type.isprintable():
        raise InvalidError(
            f"the content type must have at most {MAX_CONTENT_TYPE} printable ASCII characters",
            reason="CONTENT_TYPE_INVALID",
        )
    return from_proto(request, ReplayOptions)
