"""Conversion by hand to `flowhook.v1` messages and back, in three cases; everything else is converted by `mapping`.

Events and replies are many, times are parts of others, and a message holds the options of replays in another form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.errors import InvalidError
from flowhook.model import Blob, Event, Headers, Origin, Part, Principal, Reply
from flowhook.model.replays import ReplayOptions, ReplayOrigin
from flowhook.v1 import envelope_pb2
from flowhook.v1.execution_service_pb2 import EditedInput
from flowhook.v1.execution_service_pb2 import ReplayExecutionRequest as _Request

N = TypeVar("N", Blob, Part, Principal, ReplayOrigin)

MAX_SECONDS: Final = 253_402_300_799  # the last second of 9999 (Unix time): the greatest of a protobuf timestamp


def timestamp(milliseconds: int) -> Timestamp:
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def milliseconds(value: Timestamp) -> int:
    return value.seconds * 1000 + value.nanos // 1_000_000


def duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1_000_000_000))


def seconds(value: Duration) -> float:
    return value.seconds + value.nanos / 1_000_000_000


def headers_to_proto(headers: Iterable[tuple[str, bytes]]) -> list[envelope_pb2.Header]:
    return [envelope_pb2.Header(name=name, value=value) for name, value in headers]


def headers_from_proto(headers: Iterable[envelope_pb2.Header]) -> Headers:
    return tuple([(header.name, header.value) for header in headers])  # a generator takes nearly twice as long


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
    _set_rare_fields(message, event)
    return message


def _set_rare_fields(message: envelope_pb2.Event, event: Event) -> None:
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
        message.body_blob.CopyFrom(envelope_pb2.Blob(**event.body_blob._asdict()))
        message.parts.extend(envelope_pb2.Part(**part._asdict()) for part in event.parts)
        message.form = event.form
    if event.replay is not None:
        message.replay.CopyFrom(envelope_pb2.ReplayOrigin(**event.replay._asdict()))
    if event.batch:
        message.batch.extend(map(event_to_bytes, event.batch))


def event_from_proto(message: envelope_pb2.Event) -> Event:
    """Return the event that a message holds; InvalidError: its `head` is no `RequestHead` (`EVENT_UNREADABLE`)."""
    try:
        head = envelope_pb2.RequestHead.FromString(message.head) if message.head else message
    except DecodeError:
        raise _unreadable() from None
    received = message.receive_time
    principal = message.principal if message.HasField("principal") else None
    event = Event(  # by position: with names it takes three times as long
        message.id,
        message.flow_id,
        received.seconds * 1000 + received.nanos // 1_000_000,
        None if principal is None else Principal(principal.scheme, principal.secret),
        message.dedupe_key,
        head.method,
        head.path,
        head.query,
        head.content_type,
        headers_from_proto(head.headers),
        message.body,
        head.traceparent,
        message.order_key,
        Origin(message.origin) if message.origin else Origin.REQUEST,
        message.callback,
        message.callback_token,
        message.depth,
        None,
        (),
        b"",
        message.rejection_id,
        _read(ReplayOrigin, message.replay) if message.HasField("replay") else None,
        message.parent_execution_id,
    )
    if message.batch:
        event = event._replace(batch=tuple(map(event_from_bytes, message.batch)))
    if not message.HasField("body_blob"):
        return event
    parts = tuple(_read(Part, part) for part in message.parts)
    return event._replace(body_blob=_read(Blob, message.body_blob), parts=parts, form=message.form)


def _read(kind: type[N], message: Message) -> N:
    """Return the named tuple whose fields a message has under the same names."""
    return kind(*[getattr(message, name) for name in kind._fields])


def event_to_bytes(event: Event) -> bytes:
    return event_to_proto(event).SerializeToString()


def event_from_bytes(payload: bytes) -> Event:
    """Parse an event from storage. Raises what `event_from_proto` does, also for what is not a serialized event."""
    try:
        return event_from_proto(envelope_pb2.Event.FromString(payload))
    except DecodeError:
        raise _unreadable() from None


def _unreadable() -> InvalidError:
    return InvalidError("the event is not a serialized Event with a serialized RequestHead", reason="EVENT_UNREADABLE")


def reply_from_proto(message: envelope_pb2.Reply) -> Reply:
    return Reply(message.status, headers_from_proto(message.headers), message.body)


def reply_to_bytes(reply: Reply) -> bytes:
    message = envelope_pb2.Reply(status=reply.status, headers=headers_to_proto(reply.headers), body=reply.body)
    return message.SerializeToString()


def replay_to_proto(options: ReplayOptions) -> _Request:
    """Return the request without its execution; raises InvalidError for options that exclude each other."""
    asked = {
        _Request.START_AUTO: options.auto,
        _Request.START_TASK: options.from_task,
        _Request.START_FAILED_TASK: options.from_failed,
    }
    starts = [start for start, wanted in asked.items() if wanted]
    if len(starts) > 1:
        raise InvalidError("give one of `from_failed`, `from_task` and `auto`", reason="START_INVALID")
    if options.body is None and options.content_type is not None:
        raise InvalidError("`content_type` needs `body`", reason="BODY_MISSING")
    edited = None if options.body is None else EditedInput(body=options.body, content_type=options.content_type)
    return _Request(
        revision=_Request.REVISION_LATEST if options.latest else _Request.REVISION_PINNED,
        start=starts[0] if starts else _Request.START_BEGINNING,
        task=options.from_task,
        output=options.output,
        input=edited,
    )


def replay_from_proto(message: _Request) -> ReplayOptions:
    """Return the options that a request holds, which a router has checked."""
    return ReplayOptions(
        latest=message.revision == _Request.REVISION_LATEST,
        from_failed=message.start == _Request.START_FAILED_TASK,
        from_task=message.task,
        output=message.output if message.HasField("output") else None,
        body=message.input.body if message.HasField("input") else None,
        content_type=message.input.content_type if message.input.HasField("content_type") else None,
        auto=message.start == _Request.START_AUTO,
    )
