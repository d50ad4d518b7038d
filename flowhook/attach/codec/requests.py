"""Encodes and decodes what runners send on the Attach stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flowhook.attach.codec.journal_entries import entry_from_proto, fill_entry
from flowhook.attach.codec.subscriptions import decode_parked, decode_update, fill_parked, fill_subscriptions
from flowhook.attach.limits import MAX_BUNDLE_BYTES, protocol_violation
from flowhook.attach.messages import (
    Checkpoint,
    CheckpointBatch,
    Completed,
    Credit,
    Ending,
    Faulted,
    Hello,
    Outcome,
    OutcomeBatch,
    Parked,
    Released,
    Renewal,
    RunnerMessage,
    SubscriptionBatch,
)
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert

if TYPE_CHECKING:
    from flowhook.events.lifecycle import LifecycleEvent

Request = pb.AttachRequest


def encode_requests(messages: Sequence[RunnerMessage]) -> list[Request]:
    """Return a runner's messages for the stream, as one bundle if it is not too large."""
    request = Request()
    parts = request.bundle.requests
    for message in messages:
        _encode(parts.add(), message)
    return [request] if len(parts) > 1 and request.ByteSize() <= MAX_BUNDLE_BYTES else list(parts)


def decode_request(request: Request) -> Iterator[tuple[RunnerMessage | None, int]]:
    """Yield a runner's messages with their sizes in bytes; None: this version does not know the kind of message.

    Raises:
        InvalidError: a protocol violation.
    """
    if not request.HasField("bundle"):
        yield _decode(request), request.ByteSize()
        return
    for part in request.bundle.requests:
        if part.WhichOneof("message") in ("hello", "bundle"):
            raise protocol_violation("a stream has one hello, and a bundle no bundles")
        yield _decode(part), part.ByteSize()


def exit_outcome_to_proto(outcome: Outcome) -> pb.Outcome:
    """Return the outcome of what a process was evaluating when it ended, for the report of its exit."""
    message = pb.Outcome()
    _fill_outcome(message, outcome)
    return message


def exit_outcome_from_proto(message: pb.Outcome) -> Outcome:
    """Decode the outcome of what a process was evaluating when it ended.

    Raises:
        InvalidError: it is neither faulted nor released (a protocol violation).
    """
    if message.WhichOneof("result") not in ("faulted", "released"):
        raise protocol_violation("what a process was evaluating when it ended is faulted or released")
    ending = _ending(message)
    return Outcome(message.lease, ending._replace(to_back=True) if isinstance(ending, Released) else ending)


def _encode(request: Request, message: RunnerMessage) -> None:
    match message:
        case CheckpointBatch():
            add_checkpoint = request.checkpoints.checkpoints.add
            for checkpoint in message.checkpoints:
                _fill_checkpoint(add_checkpoint(), checkpoint)
        case OutcomeBatch():
            add_outcome = request.outcomes.outcomes.add
            for outcome in message.outcomes:
                _fill_outcome(add_outcome(), outcome)
        case SubscriptionBatch():
            for lease, generation, subscriptions in message.updates:
                fill_subscriptions(request.listening.listening.add(lease=lease, generation=generation), subscriptions)
        case Credit():
            request.credit.assignments = message.assignments
        case Renewal():
            request.renewal.stamp = message.stamp
        case Hello():
            hello = request.hello
            hello.runner_id = message.runner_id
            hello.components.extend(message.components)
            hello.build = message.build
            hello.held_leases.extend(message.held_leases)
            hello.losses_explained = message.losses_explained


def _decode(request: Request) -> RunnerMessage | None:
    match request.WhichOneof("message"):
        case "checkpoints":
            return CheckpointBatch(tuple(map(_checkpoint, request.checkpoints.checkpoints)))
        case "outcomes":
            return OutcomeBatch(tuple(map(_outcome, request.outcomes.outcomes)))
        case "listening":
            return SubscriptionBatch(tuple(map(decode_update, request.listening.listening)))
        case "credit":
            return Credit(request.credit.assignments)
        case "renewal":
            return Renewal(request.renewal.stamp)
        case "hello":
            hello = request.hello
            components, held = tuple(hello.components), tuple(hello.held_leases)
            return Hello(hello.runner_id, components, hello.build, held, hello.losses_explained)
    return None


def _fill_checkpoint(message: pb.Checkpoint, checkpoint: Checkpoint) -> None:
    lease, index, entry, compacts, reply, arrival, events, number, history = checkpoint
    message.lease = lease
    message.index = index
    if entry is not None:
        fill_entry(message.entry, entry)
    if compacts:
        message.compacts = True
    if reply is not None:
        message.reply.ParseFromString(reply)
        message.reply.SetInParent()
    if arrival:
        message.arrival = arrival
    if events:
        message.events.extend(map(_event_to_proto, events))
    if number:
        message.number = number
    if history:
        message.history = history


def _checkpoint(message: pb.Checkpoint) -> Checkpoint:
    entry = entry_from_proto(message.entry) if message.HasField("entry") else None
    reply = message.reply.SerializeToString() if message.HasField("reply") else None
    events = _events(message.events) if message.events else ()
    return Checkpoint(
        message.lease,
        message.index,
        entry,
        message.compacts,
        reply,
        message.arrival,
        events,
        message.number,
        message.history,
    )


def _fill_outcome(message: pb.Outcome, outcome: Outcome) -> None:
    lease, ending, events, history, checkpoints = outcome
    message.lease = lease
    match ending:
        case Completed():
            message.completed.output = ending.output
            if ending.reply is not None:
                message.completed.reply.ParseFromString(ending.reply)
                message.completed.reply.SetInParent()
        case Faulted():
            message.faulted.CopyFrom(convert.error_to_proto(ending.error))
        case Parked():
            message.parked.SetInParent()
            fill_parked(message.parked, ending)
        case Released():
            message.released.reason = ending.reason
            message.released.charged = ending.charged
    if events:
        message.events.extend(map(_event_to_proto, events))
    if history:
        message.history = history
    for checkpoint in checkpoints:
        _fill_checkpoint(message.checkpoints.add(), checkpoint)


def _outcome(message: pb.Outcome) -> Outcome:
    events = _events(message.events) if message.events else ()
    checkpoints = tuple(map(_checkpoint, message.checkpoints)) if message.checkpoints else ()
    return Outcome(message.lease, _ending(message), events, message.history, checkpoints)


def _ending(message: pb.Outcome) -> Ending:
    match message.WhichOneof("result"):
        case "completed":
            completed = message.completed
            reply = completed.reply.SerializeToString() if completed.HasField("reply") else None
            return Completed(completed.output, reply)
        case "faulted":
            return Faulted(convert.error_from_proto(message.faulted))
        case "parked":
            return decode_parked(message.parked)
        case _:
            return Released(message.released.reason, message.released.charged)


def _event_to_proto(event: LifecycleEvent) -> pb.LifecycleEvent:
    type_, key, time_ms, data = event
    return pb.LifecycleEvent(type=type_, key=key, time=convert.timestamp(time_ms), data=data)


def _events(messages: Sequence[pb.LifecycleEvent]) -> tuple[LifecycleEvent, ...]:
    # callers have imported the module anyway; other processes should not load it and the body parsers that it imports
    from flowhook.events.lifecycle import LifecycleEvent  # noqa: PLC0415 - see above

    return tuple(LifecycleEvent(each.type, each.key, convert.milliseconds(each.time), each.data) for each in messages)
