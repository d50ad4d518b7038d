"""Conversion of events and replies, which are many, to `flowhook.v1` messages and back, and of times; by hand.

Everything else is converted by `mapping`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from flowhook.errors import InvalidError
from flowhook.model import Blob, Event, Headers, Origin, Part, Principal, Reply
from flowhook.model.replays import ReplayOrigin
from flowhook.v1 import envelope_pb2

MAX_SECONDS: Final = 253_402_300_799
"""The last second of 9999 (Unix time), the greatest that a protobuf timestamp may hold."""


def timestamp(milliseconds: int) -> Timestamp:
    """Return a protobuf timestamp of Unix milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def milliseconds(value: Timestamp) -> int:
    """Return the Unix milliseconds of a protobuf timestamp."""
    return value.seconds * 1000 + value.nanos // 1_000_000


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
