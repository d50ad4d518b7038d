"""IngestService: translates between calls and `router.flows.intake`, and waits for results on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import attrs
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.model import Status, WorkflowError
from flowhook.v1 import envelope_pb2, failure_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.mapping import to_proto
from flowhook.wire.status import failure_to_proto
from router.bodies.body_streams import UploadReceiver
from router.calls.error_mapping import Context, request_stream_rpc, unary_rpc
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.intake import EventIntake, Intake
from router.secrets.callback_keys import ReplyTokens, reply_not_found
from router.storage.model import Ended, ExecutionRecord, Replied

DEFAULT_WAIT: Final = 30.0  # seconds that InvokeFlow waits
MAX_WAIT: Final = 300.0
STORED_AT_ONCE: Final = 2  # requests of one stream that are being stored: one is read while another is committed
ADMITTED: Final = (("admitted", "1"),)  # initial metadata of an upload that may proceed; a refusal has none
_Result = ingest_service_pb2.IngestResult
_Pending = ingest_service_pb2.Pending
_Outcome = dict[str, Any]  # response fields that InvokeFlow and GetReply share


@attrs.define(eq=False, repr=False, kw_only=True)
class IngestService(ingest_service_pb2_grpc.IngestServiceServicer):
    """See protos/flowhook/v1/ingest_service.proto."""

    _runtime: ShardRuntime
    _intake: EventIntake
    _tokens: ReplyTokens
    _uploads: UploadReceiver
    _reading: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)  # those of all streams of events

    def end_streams(self) -> None:
        """Read no further from streams of events; each ends when what was read is answered."""
        for reading in self._reading:
            reading.cancel()

    @unary_rpc
    async def IngestEvents(
        self, request: ingest_service_pb2.IngestEventsRequest
    ) -> ingest_service_pb2.IngestEventsResponse:
        response = ingest_service_pb2.IngestEventsResponse()
        await self._store(request.events, response.results)
        return response

    @request_stream_rpc
    async def StreamEvents(
        self, request_iterator: AsyncIterator[ingest_service_pb2.StreamEventsRequest], context: Context
    ) -> None:
        """Store batches of events concurrently, and answer them in their order."""
        room = asyncio.Semaphore(STORED_AT_ONCE)
        storing: asyncio.Queue[asyncio.Task[ingest_service_pb2.StreamEventsResponse] | None] = asyncio.Queue()

        async def read(tasks: asyncio.TaskGroup) -> None:
            await room.acquire()
            async for request in request_iterator:
                storing.put_nowait(tasks.create_task(store(request)))
                await room.acquire()

        async def store(request: ingest_service_pb2.StreamEventsRequest) -> ingest_service_pb2.StreamEventsResponse:
            response = ingest_service_pb2.StreamEventsResponse()
            await self._store(request.events, response.results)
            return response

        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read(tasks), name="read events")
                self._reading.add(reading)
                reading.add_done_callback(self._reading.discard)
                # not at the end of `read`, which never begins if it is cancelled at once
                reading.add_done_callback(lambda _reading: storing.put_nowait(None))
                while (stored := await storing.get()) is not None:
                    await context.write(await stored)
                    room.release()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # those of other requests: the caller sends them again

    async def _store(
        self, events: Iterable[envelope_pb2.Event], results: RepeatedCompositeFieldContainer[_Result]
    ) -> None:
        """Store events, and add their results."""
        intakes = [Intake(message) for message in events]
        if not 0 < len(intakes) <= limits.MAX_BATCH_EVENTS:
            raise InvalidError(f"a batch must have 1 to {limits.MAX_BATCH_EVENTS} events", reason="BATCH_INVALID")
        await self._intake.store(intakes)
        for each in intakes:
            result = results.add()
            if each.error is not None:
                result.rejected.CopyFrom(failure_to_proto(each.error))
            else:  # set one by one, in a third of the time that a message of its own takes
                accepted = result.accepted
                accepted.execution_id = each.execution_id
                if each.duplicate:
                    accepted.duplicate = True
                if each.receiver_id:
                    accepted.receiver_execution_id = each.receiver_id
                if each.rate_remaining is not None:
                    accepted.rate_remaining = each.rate_remaining

    @unary_rpc
    async def InvokeFlow(self, request: ingest_service_pb2.InvokeFlowRequest) -> ingest_service_pb2.InvokeFlowResponse:
        """Store an event and wait for the reply of its execution, at most `max_wait`."""
        wait = convert.seconds(request.max_wait) if request.HasField("max_wait") else DEFAULT_WAIT
        if not 0 < wait <= MAX_WAIT:
            raise InvalidError(
                f"`max_wait` must be greater than 0 s and at most {MAX_WAIT:.0f} s", reason="MAX_WAIT_INVALID"
            )
        if request.event.callback:
            raise InvalidError("callbacks are accepted by IngestEvents only", reason="CALLBACK_NOT_INVOKABLE")
        # reserve the waiter first: a caller must be refused before its event is stored, not after
        with self._runtime.waiters.place(request.event.flow_id, request.ByteSize()) as wait_for:
            intake = Intake(request.event, alone=True)
            await self._intake.store([intake])
            if intake.error is not None:
                raise intake.error
            answered, execution_id = wait_for(intake.seq), intake.execution_id
            # the execution of an earlier event may have replied before the wait began
            outcome = (
                await self._outcome(await self._runtime.executions.find(execution_id)) if intake.duplicate else None
            )
            if outcome is None:
                try:
                    async with asyncio.timeout(wait):
                        outcome = _outcome_of(await answered)
                except TimeoutError:
                    outcome = {"pending": _Pending(reply_token=self._tokens.issue(execution_id))}
        return ingest_service_pb2.InvokeFlowResponse(execution_id=execution_id, **outcome)

    @request_stream_rpc
    async def UploadBody(
        self, request_iterator: AsyncIterator[ingest_service_pb2.UploadBodyRequest], context: Context
    ) -> ingest_service_pb2.UploadBodyResponse:
        stored = await self._uploads.receive(request_iterator, lambda: context.send_initial_metadata(ADMITTED))
        blob = envelope_pb2.Blob(id=stored.id, size=stored.size, sha256=stored.sha256)
        return ingest_service_pb2.UploadBodyResponse(blob=blob)

    @unary_rpc
    async def GetReply(self, request: ingest_service_pb2.GetReplyRequest) -> ingest_service_pb2.GetReplyResponse:
        execution_id = self._tokens.execution_of(request.reply_token)
        record = await self._runtime.parts.state.find(execution_id)
        if record is None:
            raise reply_not_found()
        outcome = await self._outcome(record) or {"pending": _Pending(reply_token=request.reply_token)}
        return ingest_service_pb2.GetReplyResponse(execution_id=record.id, flow_id=record.flow_id, **outcome)

    async def _outcome(self, record: ExecutionRecord) -> _Outcome | None:
        """Return the outcome of an execution, None when it has neither replied nor ended."""
        output, reply = await self._runtime.parts.state.answer(record.seq)
        if reply is None and not record.status.ended:
            return None
        return _outcome(record.status, record.error, output, reply)


def _outcome_of(answer: Replied | Ended) -> _Outcome:
    if isinstance(answer, Replied):
        return _outcome(Status.RUNNING, None, None, answer.reply)
    return _outcome(answer.status, answer.error, answer.output, answer.reply)


def _outcome(status: Status, error: WorkflowError | None, output: bytes | None, reply: bytes | None) -> _Outcome:
    """Return the outcome of an execution: the reply it gave, else its output as JSON, else its error."""
    if reply is not None:
        return {"reply": envelope_pb2.Reply.FromString(reply)}
    if status is Status.COMPLETED:
        header = envelope_pb2.Header(name="content-type", value=b"application/json")
        return {"reply": envelope_pb2.Reply(status=200, headers=[header], body=output or b"null"), "from_output": True}
    cancelled = WorkflowError(type="about:blank", status=503, title=f"The execution was {status.value}")
    return {"error": to_proto((error or cancelled).without_response(), failure_pb2.WorkflowError)}
