"""Encodes and decodes what routers send on the Attach stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowhook.attach.codec.journal_entries import entry_from_proto, fill_entry
from flowhook.attach.limits import MAX_BUNDLE_BYTES
from flowhook.attach.messages import (
    Assignment,
    AssignmentBatch,
    CheckpointAck,
    Drain,
    DurableCheckpoint,
    EventDelivery,
    EventDeliveryBatch,
    LifecycleFilter,
    Renewed,
    Revocation,
    RouterMessage,
    Settlement,
    Welcome,
)
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert

Response = pb.AttachResponse


def encode_responses(messages: Sequence[RouterMessage], *, sent_ms: int = 0) -> list[Response]:
    """Return a router's messages for the stream, as one bundle if it is not too large; `sent_ms`: the router's time."""
    response = Response()
    parts = response.bundle.responses
    for message in messages:
        _encode(parts.add(), message)
    found = [response] if len(parts) > 1 and response.ByteSize() <= MAX_BUNDLE_BYTES else list(parts)
    for each in found:
        each.sent_time_ms = sent_ms
    return found


def decode_response(response: Response) -> Iterator[RouterMessage]:
    """Yield a router's messages, without those of a kind that this version does not know."""
    for part in response.bundle.responses if response.HasField("bundle") else (response,):
        message = _decode(part)
        if message is not None:
            yield message


def _encode(response: Response, message: RouterMessage) -> None:
    match message:
        case AssignmentBatch():
            _fill_assignments(response.assignments, message.assignments)
        case CheckpointAck():
            _fill_ack(response.checkpointed, message.checkpoints)
        case Settlement():
            response.settlement.leases.extend(message.leases)
        case EventDeliveryBatch():
            _fill_deliveries(response.arrivals, message.deliveries)
        case Revocation():
            response.revocation.leases.extend(message.leases)
            response.revocation.reason = message.reason
        case Renewed():
            response.renewed.stamp = message.stamp
        case LifecycleFilter():
            response.interest.SetInParent()
            response.interest.event_types.extend(sorted(message.types))
        case Drain():
            response.drain.grace.CopyFrom(convert.duration(message.grace))
        case Welcome():
            welcome = response.welcome
            welcome.lease_duration.CopyFrom(convert.duration(message.lease_seconds))
            welcome.kept_leases.extend(message.retained)


def _decode(response: Response) -> RouterMessage | None:
    match response.WhichOneof("message"):
        case "assignments":
            return AssignmentBatch(tuple(map(_assignment, response.assignments.assignments)))
        case "checkpointed":
            found = response.checkpointed.checkpoints
            return CheckpointAck(tuple(DurableCheckpoint(item.lease, item.index, item.number) for item in found))
        case "settlement":
            return Settlement(tuple(response.settlement.leases))
        case "arrivals":
            return EventDeliveryBatch(tuple(map(_delivery, response.arrivals.arrivals)))
        case "revocation":
            return Revocation(tuple(response.revocation.leases), response.revocation.reason)
        case "renewed":
            return Renewed(response.renewed.stamp)
        case "interest":
            return LifecycleFilter(frozenset(response.interest.event_types))
        case "drain":
            return Drain(convert.seconds(response.drain.grace))
        case "welcome":
            terms = response.welcome
            seconds, retained = convert.seconds(terms.lease_duration), frozenset(terms.kept_leases)
            return Welcome(seconds, retained)
    return None


def _fill_assignments(batch: pb.AssignmentBatch, assignments: Sequence[Assignment]) -> None:
    add = batch.assignments.add
    for lease, attempt, revision, event, journal, start, scope in assignments:
        message = add()
        message.lease = lease
        message.attempt = attempt
        message.flow_revision = revision
        message.event = event
        if journal:
            message.journal_start = start
            add_entry = message.journal.add
            for entry in journal:
                fill_entry(add_entry(), entry)
        if scope:
            message.effect_scope = scope


def _assignment(item: pb.Assignment) -> Assignment:
    journal = tuple(map(entry_from_proto, item.journal)) if item.journal else ()
    return Assignment(
        item.lease, item.attempt, item.flow_revision, item.event, journal, item.journal_start, item.effect_scope
    )


def _fill_deliveries(batch: pb.ArrivalBatch, deliveries: Sequence[EventDelivery]) -> None:
    for lease, generation, number, entry in deliveries:
        fill_entry(batch.arrivals.add(lease=lease, generation=generation, number=number).entry, entry)


def _delivery(item: pb.Arrival) -> EventDelivery:
    return EventDelivery(item.lease, item.generation, item.number, entry_from_proto(item.entry))


def _fill_ack(ack: pb.CheckpointAck, checkpoints: Sequence[DurableCheckpoint]) -> None:
    add = ack.checkpoints.add
    for lease, index, number in checkpoints:
        message = add()
        message.lease = lease
        message.index = index
        message.number = number
