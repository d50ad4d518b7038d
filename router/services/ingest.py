"""IngestService: checks events against their flows' limits, stores them, and waits for results on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, NotFoundError, UnavailableError
from flowhook.model import Status, WorkflowError
from flowhook.sandbox import INLINE_BYTES
from flowhook.v1 import envelope_pb2, failure_pb2, ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.failures import failure_from_proto, failure_to_proto
from flowhook.wire.mapping import to_proto
from router.bodies.body_streams import UploadReceiver
from router.calls import error_mapping
from router.calls.authorization import check_flow_permitted
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.admission import (
    AdmissionControl,
    event_id_taken,
    fill_defaults,
    has_unparsed_body,
    take_attributes,
    validate_and_serialize,
)
from router.metrics import RouterMetrics
from router.secrets.callback_keys import ReplyTokens, reply_not_found
from router.secrets.flow_secrets import SecretMatches
from router.services.callbacks import CallbackReceiver
from router.storage.bodies import BodyStore
from router.storage.commit_log.interface import OUTCOME_UNKNOWN
from router.storage.model import Appended, Ended, ExecutionRecord, NewEvent, Replied
from router.storage.shard_state import ShardState

DEFAULT_WAIT: Final = 30.0
MAX_WAIT: Final = 300.0
"""Seconds that InvokeFlow waits by default, and at most."""

ADMITTED: Final = (("admitted", "1"),)
"""Initial metadata of an upload that may proceed; a refusal has none."""

_Response = ingest_service_pb2.IngestEventsResponse
_Result = ingest_service_pb2.IngestResult
_Accepted = ingest_service_pb2.Accepted
_Pending = ingest_service_pb2.Pending
_Outcome = dict[str, Any]
"""Response fields that InvokeFlow and GetReply share."""
_Fate = FlowhookError | ExecutionRecord | None
"""The error that refuses an event, or the execution that a duplicate started earlier; None: the event is stored."""

_NOT_NOW = (ExhaustedError, UnavailableError, NotFoundError)
"""Errors that refuse new events only: an event stored earlier adds no load."""


class IngestService(ingest_service_pb2_grpc.IngestServiceServicer):
    """See protos/flowhook/v1/ingest_service.proto."""

    def __init__(
        self,
        *,
        host: ShardRuntime,
        state: ShardState,
        admission: AdmissionControl,
        callbacks: CallbackReceiver,
        tokens: ReplyTokens,
        metrics: RouterMetrics,
        bodies: BodyStore,
        uploads: UploadReceiver,
        matches: SecretMatches,
        now_ms: Callable[[], int],
    ) -> None:
        self._host = host
        self._state = state
        self._admission = admission
        self._callbacks = callbacks
        self._tokens = tokens
        self._metrics = metrics
        self._bodies = bodies
        self._uploads = uploads
        self._matches = matches
        self._now_ms = now_ms
        self._storing = 0
        """Events passed to storage that the scheduling core does not count yet."""
        self._storing_by_flow: dict[str, int] = {}
        self._read_bytes = 0
        """Bytes of bodies parsed since control was last yielded to the event loop."""

    @error_mapping.rpc_method
    async def IngestEvents(  # noqa: N802 - the name of the RPC
        self, request: ingest_service_pb2.IngestEventsRequest, context: error_mapping.Context
    ) -> _Response:
        """Store a batch; each event succeeds or fails on its own."""
        del context
        messages = request.events
        if not 0 < len(messages) <= limits.MAX_BATCH_EVENTS:
            raise InvalidError(f"a batch must have 1 to {limits.MAX_BATCH_EVENTS} events", reason="BATCH_INVALID")
        now_ms = self._now_ms()
        for message in messages:
            if not (message.head and message.id):  # an edge sets both
                fill_defaults(message, now_ms)
        if not any(message.callback for message in messages):
            return _Response(results=await self._starts(messages))
        if request.ByteSize() > limits.MAX_BATCH_BYTES:
            raise _batch_too_large()
        starts, calls = await asyncio.gather(
            self._starts([message for message in messages if not message.callback]),
            asyncio.gather(*(self._call_back(message) for message in messages if message.callback)),
        )
        started, called = iter(starts), iter(calls)
        return _Response(results=[next(called if message.callback else started) for message in messages])

    async def store(self, message: envelope_pb2.Event, rejection_id: str) -> _Accepted:
        """Store the event of a rejected request that an operator accepted.

        Raises:
            FlowhookError: it is not stored.
        """
        if message.callback:
            result = await self._call_back(message, rejection_id)
        else:
            (result,) = await self._starts([message], rejection_id)
        if result.HasField("rejected"):
            raise failure_from_proto(result.rejected)
        return result.accepted

    async def _starts(self, messages: Sequence[envelope_pb2.Event], rejection_id: str = "") -> list[_Result]:
        """Store events that start executions; those of a rejected request are marked with its ID."""
        fates: list[_Fate] = []
        events: list[NewEvent] = []
        size = 0
        try:
            for message in messages:
                try:
                    events.append(event := await self._admitted(message, rejection_id))
                except FlowhookError as error:
                    fates.append(error)
                except Exception as error:  # noqa: BLE001 - it must not affect the others of the batch
                    fates.append(error_mapping.internal_error("IngestService.IngestEvents", error))
                else:
                    fates.append(None)
                    size += len(event.payload)
            if refused := [each for each, fate in zip(messages, fates, strict=True) if isinstance(fate, _NOT_NOW)]:
                known = await self._stored_before(refused)
                fates = [
                    known.get((message.flow_id, message.id), fate) if isinstance(fate, _NOT_NOW) else fate
                    for message, fate in zip(messages, fates, strict=True)
                ]
            if size > limits.MAX_BATCH_BYTES:
                raise _batch_too_large()
            appended = iter(await self._host.append(events) if events else ())
        except UnavailableError as error:
            fates = [fate or error for fate in fates]
            appended = iter(())
        finally:
            self._forget(events)
        stored = iter(events)
        results = [
            self._accepted(next(stored), next(appended)) if fate is None else self._settled(fate) for fate in fates
        ]
        for message, result in zip(messages, results, strict=True):
            if result.HasField("rejected") and result.rejected.reason not in OUTCOME_UNKNOWN:
                self._discard_body(message)
        return results

    async def _stored_before(self, messages: Sequence[envelope_pb2.Event]) -> dict[tuple[str, str], ExecutionRecord]:
        """Return the executions of events that were stored earlier, by flow and ID.

        A caller that retries a call whose response was lost must not receive an error.
        """
        wanted = {(message.flow_id, message.id) for message in messages}
        known = await self._state.find_by_ids([message.id for message in messages])
        return {key: each for each in known.values() if (key := (each.flow_id, each.id)) in wanted}

    def _discard_body(self, message: envelope_pb2.Event) -> None:
        """Discard the body that an event names, if any: the event was rejected."""
        if message.HasField("body_blob"):
            self._bodies.discard(message.body_blob.id, message.flow_id)

    async def _call_back(self, message: envelope_pb2.Event, rejection_id: str = "") -> _Result:
        """Store an event for executions that wait for it."""
        try:
            check_flow_permitted(message.flow_id)
            earlier = await self._callbacks.receive(message, rejection_id)
            if message.HasField("principal"):
                self._matches.note(message.flow_id, message.principal.secret, self._now_ms())
        except FlowhookError as error:
            return self._rejected(error)
        except Exception as error:  # noqa: BLE001 - it must not affect the others of the batch
            return self._rejected(error_mapping.internal_error("IngestService.IngestEvents", error))
        if earlier:
            return self._duplicate(earlier)
        self._metrics.accepted.inc()
        return _Result(accepted=_Accepted(execution_id=message.id))

    @error_mapping.rpc_method
    async def InvokeFlow(  # noqa: N802 - the name of the RPC
        self, request: ingest_service_pb2.InvokeFlowRequest, context: error_mapping.Context
    ) -> ingest_service_pb2.InvokeFlowResponse:
        """Store one event and wait for the reply of its execution."""
        del context
        wait = convert.seconds(request.max_wait) if request.HasField("max_wait") else DEFAULT_WAIT
        if not 0 < wait <= MAX_WAIT:
            raise InvalidError(
                f"`max_wait` must be greater than 0 s and at most {MAX_WAIT:.0f} s", reason="MAX_WAIT_INVALID"
            )
        if request.event.callback:
            raise InvalidError("callbacks are accepted by IngestEvents only", reason="CALLBACK_NOT_INVOKABLE")
        fill_defaults(request.event, self._now_ms())
        # reserve the waiter first: a caller must be refused before its event is stored, not after
        with self._host.waiters.place(request.event.flow_id, request.ByteSize()) as place:
            seq, execution_id, earlier = await self._stored(request.event)
            answered = place.wait_for(seq)
            # the execution of an earlier event may have replied before the wait began
            outcome = await self._outcome(await self._host.executions.find(execution_id)) if earlier else None
            if outcome is None:
                try:
                    async with asyncio.timeout(wait):
                        outcome = _outcome_of(await answered)
                except TimeoutError:
                    outcome = {"pending": _Pending(reply_token=self._tokens.issue(execution_id))}
        return ingest_service_pb2.InvokeFlowResponse(execution_id=execution_id, **outcome)

    @error_mapping.rpc_method
    async def UploadBody(  # noqa: N802 - the name of the RPC
        self, request_iterator: AsyncIterator[ingest_service_pb2.UploadBodyRequest], context: error_mapping.Context
    ) -> ingest_service_pb2.UploadBodyResponse:
        """Store a body that an event will name."""
        stored = await self._uploads.take(request_iterator, lambda: context.send_initial_metadata(ADMITTED))
        blob = envelope_pb2.Blob(id=stored.id, size=stored.size, sha256=stored.sha256)
        return ingest_service_pb2.UploadBodyResponse(blob=blob)

    @error_mapping.rpc_method
    async def GetReply(  # noqa: N802 - the name of the RPC
        self, request: ingest_service_pb2.GetReplyRequest, context: error_mapping.Context
    ) -> ingest_service_pb2.GetReplyResponse:
        """Return the reply of an execution, or that it is still pending."""
        del context
        execution_id = self._tokens.execution_of(request.reply_token)
        record = await self._state.find(execution_id)
        if record is None:
            raise reply_not_found()
        outcome = await self._outcome(record) or {"pending": _Pending(reply_token=request.reply_token)}
        return ingest_service_pb2.GetReplyResponse(execution_id=record.id, flow_id=record.flow_id, **outcome)

    async def _outcome(self, record: ExecutionRecord) -> _Outcome | None:
        """Return the outcome of an execution, None when it has neither replied nor ended."""
        output, reply = await self._state.answer(record.seq)
        if reply is None and not record.status.ended:
            return None
        return _outcome(record.status, record.error, output, reply)

    async def _stored(self, message: envelope_pb2.Event) -> tuple[int, str, bool]:
        """Store an event and return (sequence number, ID, whether it is a duplicate) of its execution."""
        try:
            event = await self._admitted(message)
        except _NOT_NOW:
            known = (await self._stored_before([message])).get((message.flow_id, message.id))
            if known is None:
                self._discard_body(message)
                raise
            return known.seq, known.id, True
        try:
            appended = (await self._host.append([event]))[0]
        finally:
            self._forget([event])
        if not appended.new and not appended.duplicate_of:
            self._discard_body(message)
            raise _why_not(appended)
        return appended.seq, appended.duplicate_of or event.event_id, bool(appended.duplicate_of)

    async def _admitted(self, message: envelope_pb2.Event, rejection_id: str = "") -> NewEvent:
        """Check an event and count it as being stored; `_forget` reverts the count."""
        check_flow_permitted(message.flow_id)
        entry = self._admission.known(message.flow_id) or await self._admission.flow(message.flow_id)
        # they are stored apart; those of another flow are part of its payload, and nobody looks at them
        attributes = take_attributes(message) if entry.keys.search else ()
        payload = validate_and_serialize(message, rejection_id)
        # fast path for the most common events: an edge parsed them, and knows the flow's current revision
        is_read = bool(message.head) and message.flow_revision == entry.revision and message.HasField("order_key")
        if is_read:
            order_key = message.order_key
        else:
            order_key, attributes = await self._admission.keys(entry, message)
        if order_key and len(order_key.encode()) > limits.MAX_ORDER_KEY_BYTES:
            raise InvalidError(
                f"the order key has more than {limits.MAX_ORDER_KEY_BYTES} bytes", reason="ORDER_KEY_INVALID"
            )
        if not is_read and has_unparsed_body(message):
            self._read_bytes += len(message.body)
            if self._read_bytes > INLINE_BYTES:  # each body is small, but together those of a batch may be large
                self._read_bytes = 0
                await asyncio.sleep(0)
        self._admission.admit(entry, self._storing, self._storing_by_flow.get(entry.id, 0))
        self._storing += 1
        self._storing_by_flow[entry.id] = self._storing_by_flow.get(entry.id, 0) + 1
        received_ms = convert.milliseconds(message.receive_time)
        if message.HasField("principal"):
            self._matches.note(entry.id, message.principal.secret, received_ms)
        # by the router's clock, whatever that of the edge shows; a request that is accepted after it was refused counts
        # as of its own time
        at_ms = received_ms if rejection_id else self._now_ms()
        return NewEvent(
            message.id,
            entry.id,
            entry.revision,
            received_ms,
            payload,
            message.dedupe_key,
            at_ms + int(entry.dedupe_seconds * 1000) if message.dedupe_key else 0,
            order_key=order_key,
            body=message.body_blob.id if message.HasField("body_blob") else "",
            attributes=attributes,
            dedupe_at_ms=at_ms,
        )

    def _forget(self, events: list[NewEvent]) -> None:
        self._storing -= len(events)
        for event in events:
            left = self._storing_by_flow[event.flow_id] - 1
            if left:
                self._storing_by_flow[event.flow_id] = left
            else:
                del self._storing_by_flow[event.flow_id]

    def _accepted(self, event: NewEvent, appended: Appended) -> _Result:
        if appended.duplicate_of:
            return self._duplicate(appended.duplicate_of)
        if not appended.new:
            return self._rejected(_why_not(appended))
        self._metrics.accepted.inc()
        return _Result(accepted=_Accepted(execution_id=event.event_id))

    def _settled(self, fate: FlowhookError | ExecutionRecord) -> _Result:
        return self._duplicate(fate.id) if isinstance(fate, ExecutionRecord) else self._rejected(fate)

    def _duplicate(self, execution_id: str) -> _Result:
        self._metrics.duplicate.inc()
        return _Result(accepted=_Accepted(execution_id=execution_id, duplicate=True))

    def _rejected(self, error: FlowhookError) -> _Result:
        self._metrics.rejected(error.reason)
        return _Result(rejected=failure_to_proto(error))


def _batch_too_large() -> InvalidError:
    return InvalidError(f"a batch must have at most {limits.MAX_BATCH_BYTES} serialized bytes", reason="BATCH_INVALID")


def _why_not(appended: Appended) -> FlowhookError:
    """Return the error for an event that is not a duplicate and was not stored."""
    if appended.taken:
        return event_id_taken()
    return UnavailableError(
        "the uploaded body was discarded: the router was restarted, or no event named it within an hour",
        reason="BODY_LOST",
    )


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
