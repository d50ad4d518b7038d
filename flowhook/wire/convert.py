"""Pure conversion between `flowhook.model` and `flowhook.v1` messages, both ways: events and executions.

`convert_detail` converts executions with all that is stored of them, `convert_resources` flows, secrets and rejections.

Functions named `*_to_proto` never fail on valid model values. Functions named `*_from_proto` accept messages of peers
of other versions: unknown enum values become the nearest safe one, absent messages become None.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.errors import InvalidError
from flowhook.model import (
    Blob,
    Event,
    Execution,
    FailedResponse,
    Headers,
    JournalEntry,
    Origin,
    Part,
    Principal,
    RaiseOrigin,
    Reply,
    Resolution,
    Retry,
    Status,
    WorkflowError,
)
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.replays import ReplayOrigin
from flowhook.v1 import envelope_pb2, execution_service_pb2, failure_pb2

_ExecutionPb = execution_service_pb2.Execution
_FilterPb = execution_service_pb2.ExecutionFilter

_STATUS_TO_PROTO = {
    Status.PENDING: _ExecutionPb.STATUS_PENDING,
    Status.RUNNING: _ExecutionPb.STATUS_RUNNING,
    Status.WAITING: _ExecutionPb.STATUS_WAITING,
    Status.SUSPENDED: _ExecutionPb.STATUS_SUSPENDED,
    Status.CANCELLED: _ExecutionPb.STATUS_CANCELLED,
    Status.FAULTED: _ExecutionPb.STATUS_FAULTED,
    Status.COMPLETED: _ExecutionPb.STATUS_COMPLETED,
}
_STATUS_FROM_PROTO: dict[int, Status] = {value: status for status, value in _STATUS_TO_PROTO.items()}


def timestamp(milliseconds: int) -> Timestamp:
    """Return a protobuf timestamp of Unix milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def milliseconds(value: Timestamp) -> int:
    """Return the Unix milliseconds of a protobuf timestamp."""
    return value.seconds * 1000 + value.nanos // 1_000_000


def optional_timestamp(milliseconds: int | None) -> Timestamp | None:
    """Return a protobuf timestamp of Unix milliseconds, or None."""
    return None if milliseconds is None else timestamp(milliseconds)


def optional_milliseconds(message: Message, field: str) -> int | None:
    """Return the Unix milliseconds of a message's timestamp; None: it is not set."""
    return milliseconds(getattr(message, field)) if message.HasField(field) else None


def duration(seconds: float) -> Duration:
    """Return a protobuf duration of seconds."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1_000_000_000))


def seconds(value: Duration) -> float:
    """Return the seconds of a protobuf duration."""
    return value.seconds + value.nanos / 1_000_000_000


def headers_to_proto(headers: Iterable[tuple[str, bytes]]) -> list[envelope_pb2.Header]:
    """Return header fields as messages, in order and with repeats."""
    return [envelope_pb2.Header(name=name, value=value) for name, value in headers]


def headers_from_proto(headers: Iterable[envelope_pb2.Header]) -> Headers:
    """Return header fields as ordered pairs."""
    return tuple((header.name, header.value) for header in headers)


def event_to_proto(event: Event, *, encode_head: bool = False) -> envelope_pb2.Event:
    """Return an event as a message; with `encode_head`, as edges send it: see `flowhook.v1.Event.head`."""
    # Setting only the non-empty fields one by one takes less than half the time of keyword arguments.
    message = envelope_pb2.Event()
    message.id = event.id
    message.flow_id = event.flow_id
    seconds, rest = divmod(event.receive_time_ms, 1000)
    received = message.receive_time
    received.seconds = seconds
    received.nanos = rest * 1_000_000
    if event.principal is not None:
        principal = message.principal
        principal.SetInParent()
        principal.scheme, principal.secret = event.principal
    head = envelope_pb2.RequestHead() if encode_head else message
    add = head.headers.add
    for name, value in event.headers:
        header = add()
        header.name = name
        header.value = value
    head.method = event.method
    head.path = event.path
    head.content_type = event.content_type
    if event.query:
        head.query = event.query
    if event.traceparent:
        head.traceparent = event.traceparent
    if encode_head:
        message.head = head.SerializeToString()
    message.body = event.body
    if event.dedupe_key:
        message.dedupe_key = event.dedupe_key
    _add_rarities(message, event)
    return message


def _add_rarities(message: envelope_pb2.Event, event: Event) -> None:
    """Set the fields that few events have."""
    if event.order_key:
        message.order_key = event.order_key
    if event.origin:
        message.origin = event.origin.value  # type: ignore[assignment] # the stub has a type of its own for it
    if event.callback:
        message.callback = event.callback
        message.callback_token = event.callback_token
    if event.depth:
        message.depth = event.depth
    if event.rejection_id:
        message.rejection_id = event.rejection_id
    if event.parent:
        message.parent_execution_id = event.parent
    if event.body_blob is not None:
        message.body_blob.CopyFrom(blob_to_proto(event.body_blob))
        message.parts.extend(part_to_proto(part) for part in event.parts)
        message.form = event.form
    if event.replay is not None:
        message.replay.CopyFrom(envelope_pb2.ReplayOrigin(**event.replay._asdict()))


def event_from_proto(message: envelope_pb2.Event) -> Event:
    """Return the event that a message holds.

    Raises:
        InvalidError: its `head` is not a serialized `RequestHead` (`EVENT_UNREADABLE`).
    """
    try:
        head = envelope_pb2.RequestHead.FromString(message.head) if message.head else message
    except DecodeError:
        raise _unreadable() from None
    principal = Principal(message.principal.scheme, message.principal.secret) if message.HasField("principal") else None
    event = Event(
        id=message.id,
        flow_id=message.flow_id,
        receive_time_ms=milliseconds(message.receive_time),
        principal=principal,
        dedupe_key=message.dedupe_key,
        method=head.method,
        path=head.path,
        query=head.query,
        content_type=head.content_type,
        headers=headers_from_proto(head.headers),
        body=message.body,
        traceparent=head.traceparent,
        order_key=message.order_key,
        origin=Origin(message.origin),
        callback=message.callback,
        callback_token=message.callback_token,
        depth=message.depth,
        rejection_id=message.rejection_id,
    )
    if message.HasField("replay"):
        event = event._replace(replay=replay_origin_from_proto(message.replay))
    if event.depth:  # only then there may be one
        event = event._replace(parent=message.parent_execution_id)
    if not message.HasField("body_blob"):
        return event
    parts = tuple(part_from_proto(part) for part in message.parts)
    return event._replace(body_blob=blob_from_proto(message.body_blob), parts=parts, form=message.form)


def replay_origin_from_proto(message: envelope_pb2.ReplayOrigin) -> ReplayOrigin:
    """Return what a replay took over."""
    return ReplayOrigin(
        from_failed_task=message.from_failed_task,
        task=message.task,
        output_given=message.output_given,
        edited_from=message.edited_from,
        attachment_owner=message.attachment_owner,
    )


def blob_to_proto(blob: Blob) -> envelope_pb2.Blob:
    """Return a separately stored body as a message."""
    return envelope_pb2.Blob(id=blob.id, size=blob.size, sha256=blob.sha256)


def blob_from_proto(message: envelope_pb2.Blob) -> Blob:
    """Return the separately stored body that a message refers to."""
    return Blob(message.id, message.size, message.sha256)


def part_to_proto(part: Part) -> envelope_pb2.Part:
    """Return an attachment as a message."""
    return envelope_pb2.Part(
        offset=part.offset, size=part.size, type=part.type, name=part.name, field=part.field, sha256=part.sha256
    )


def part_from_proto(message: envelope_pb2.Part) -> Part:
    """Return the attachment that a message describes."""
    return Part(message.offset, message.size, message.type, message.name, message.field, message.sha256)


def event_to_bytes(event: Event) -> bytes:
    """Serialize an event for storage."""
    return event_to_proto(event).SerializeToString()


def event_from_bytes(payload: bytes) -> Event:
    """Parse an event from storage.

    Raises:
        InvalidError: it is not a serialized event, or the `head` in it is not a serialized `RequestHead`
            (`EVENT_UNREADABLE`).
    """
    try:
        message = envelope_pb2.Event.FromString(payload)
    except DecodeError:
        raise _unreadable() from None
    return event_from_proto(message)


def _unreadable() -> InvalidError:
    return InvalidError("the event is not a serialized Event with a serialized RequestHead", reason="EVENT_UNREADABLE")


def reply_to_proto(reply: Reply) -> envelope_pb2.Reply:
    """Return a reply as a message."""
    return envelope_pb2.Reply(status=reply.status, headers=headers_to_proto(reply.headers), body=reply.body)


def reply_from_proto(message: envelope_pb2.Reply) -> Reply:
    """Return the reply that a message holds."""
    return Reply(message.status, headers_from_proto(message.headers), message.body)


def reply_to_bytes(reply: Reply) -> bytes:
    """Serialize a reply for storage."""
    return reply_to_proto(reply).SerializeToString()


def reply_from_bytes(payload: bytes) -> Reply:
    """Parse a reply from storage."""
    return reply_from_proto(envelope_pb2.Reply.FromString(payload))


def error_to_proto(error: WorkflowError) -> failure_pb2.WorkflowError:
    """Return a workflow error as a message."""
    message = failure_pb2.WorkflowError(
        type=error.type, status=error.status, title=error.title, instance=error.instance, detail=error.detail
    )
    if error.response is not None:
        message.response.CopyFrom(failure_pb2.FailedResponse(**error.response._asdict()))
    if error.raising is not None:
        message.raising.CopyFrom(failure_pb2.Raising(**error.raising._asdict()))
    return message


def error_from_proto(message: failure_pb2.WorkflowError) -> WorkflowError:
    """Return the workflow error that a message holds."""
    response = None
    if message.HasField("response"):
        answer = message.response
        response = FailedResponse(answer.status, answer.url, answer.body, answer.size)
    raising = RaiseOrigin(message.raising.task, message.raising.cause) if message.HasField("raising") else None
    return WorkflowError(
        message.type, message.status, message.title, message.instance, message.detail, response, raising
    )


def retry_to_proto(retry: Retry) -> failure_pb2.Retry:
    """Return what is tried again as a message, without the keys."""
    return failure_pb2.Retry(
        error=error_to_proto(retry.error),
        tries=retry.tries,
        next_time=timestamp(retry.next_time_ms),
        others=retry.others,
    )


def retry_from_proto(message: failure_pb2.Retry, keys: Iterable[str] = ()) -> Retry:
    """Return what is tried again that a message holds, with its keys."""
    error, next_time_ms = error_from_proto(message.error), milliseconds(message.next_time)
    return Retry(error, message.tries, next_time_ms, message.others, tuple(keys))


def status_to_proto(status: Status) -> execution_service_pb2.Execution.Status:
    """Return a status as its enum value."""
    return _STATUS_TO_PROTO[status]


def status_from_proto(value: int) -> Status:
    """Return the status of an enum value; an unknown one of a newer version becomes `PENDING`."""
    return _STATUS_FROM_PROTO.get(value, Status.PENDING)


def execution_to_proto(execution: Execution) -> execution_service_pb2.Execution:
    """Return an execution as a message."""
    return _ExecutionPb(
        id=execution.id,
        flow_id=execution.flow_id,
        flow_revision=execution.flow_revision,
        replay_of=execution.replay_of,
        status=status_to_proto(execution.status),
        attempts=execution.attempts,
        error=None if execution.error is None else error_to_proto(execution.error),
        receive_time=timestamp(execution.receive_time_ms),
        end_time=optional_timestamp(execution.end_time_ms),
        replayed_by=execution.replayed_by,
        replayed=execution.replayed,
        resolution=None if execution.resolution is None else _resolution_to_proto(execution.resolution),
        retry=None if execution.retry is None else retry_to_proto(execution.retry),
    )


def _resolution_to_proto(resolution: Resolution) -> execution_service_pb2.Resolution:
    return execution_service_pb2.Resolution(reason=resolution.reason, time=timestamp(resolution.time_ms))


def execution_from_proto(message: execution_service_pb2.Execution) -> Execution:
    """Return the execution that a message holds."""
    return Execution(
        id=message.id,
        flow_id=message.flow_id,
        flow_revision=message.flow_revision,
        status=status_from_proto(message.status),
        attempts=message.attempts,
        receive_time_ms=milliseconds(message.receive_time),
        end_time_ms=optional_milliseconds(message, "end_time"),
        error=error_from_proto(message.error) if message.HasField("error") else None,
        replay_of=message.replay_of,
        replayed_by=message.replayed_by,
        replayed=message.replayed,
        resolution=(
            Resolution(message.resolution.reason, milliseconds(message.resolution.time))
            if message.HasField("resolution")
            else None
        ),
        retry=retry_from_proto(message.retry) if message.HasField("retry") else None,
    )


def filter_to_proto(conditions: ExecutionFilter) -> execution_service_pb2.ExecutionFilter:
    """Return conditions on executions as a message."""
    received_from, received_until = conditions.receive_from_ms, conditions.receive_until_ms
    return _FilterPb(
        flow_id=conditions.flow_id,
        statuses=[status_to_proto(status) for status in conditions.statuses],
        unresolved=conditions.unresolved,
        receive_from=optional_timestamp(received_from),
        receive_until=optional_timestamp(received_until),
        error_type=conditions.error_type,
        error_task=conditions.error_task,
        error_status=conditions.error_status,
        error_title=conditions.error_title,
        min_attempts=conditions.min_attempts,
        attributes=attributes_to_proto(conditions.attributes),
        caused_by=conditions.caused_by,
    )


def attributes_to_proto(attributes: Iterable[tuple[str, str]]) -> list[envelope_pb2.SearchAttribute]:
    """Return search attributes as messages, in order."""
    return [envelope_pb2.SearchAttribute(name=name, value=value) for name, value in attributes]


def filter_from_proto(message: execution_service_pb2.ExecutionFilter) -> ExecutionFilter:
    """Return the conditions on executions that a message holds."""
    return ExecutionFilter(
        flow_id=message.flow_id,
        statuses=tuple(status_from_proto(status) for status in message.statuses),
        unresolved=message.unresolved,
        receive_from_ms=optional_milliseconds(message, "receive_from"),
        receive_until_ms=optional_milliseconds(message, "receive_until"),
        error_type=message.error_type,
        error_task=message.error_task if message.HasField("error_task") else None,
        error_status=message.error_status,
        error_title=message.error_title,
        min_attempts=message.min_attempts,
        attributes=tuple((each.name, each.value) for each in message.attributes),
        caused_by=message.caused_by,
    )


def task_record_to_proto(entry: JournalEntry) -> execution_service_pb2.TaskRecord:
    """Return a journal entry as the message that clients receive."""
    return execution_service_pb2.TaskRecord(
        task=entry.key,
        output=entry.output or b"",
        error=None if entry.error is None else error_to_proto(entry.error),
    )
