"""Converts Attach messages between protobuf and `flowhook.attach.messages`, in both directions.

Nothing else touches the protobuf classes of Attach. A *request* is what a runner sends, a *response* what a router
sends.

Encoding fills a message in place: a message that is composed of finished parts copies each of them once for each level,
which takes three times as long. Decoding checks no more than what would make the conversion itself expensive, and
raises InvalidError (a protocol violation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowhook import limits
from flowhook.attach import messages as m
from flowhook.attach.limits import MAX_BUNDLE_BYTES, MAX_WAIT_BYTES, protocol_violation
from flowhook.model import ERROR_TYPE_BASE, Correlation, EventFilter, JournalEntry, Retry, Subscription, WorkflowError
from flowhook.v1 import failure_pb2
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from flowhook.wire.mapping import from_proto, to_proto

if TYPE_CHECKING:
    from flowhook.events.lifecycle import LifecycleEvent  # processes that report none should not load the module


def fill_entry(message: pb.JournalEntry, entry: JournalEntry) -> None:
    message.key = entry.key
    if entry.error is None:
        message.output = entry.output or b""
    else:
        message.error.CopyFrom(to_proto(entry.error, failure_pb2.WorkflowError))


def entry_from_proto(message: pb.JournalEntry) -> JournalEntry:
    if message.WhichOneof("result") == "error":
        return JournalEntry(message.key, None, from_proto(message.error, WorkflowError))
    return JournalEntry(message.key, message.output)


def fill_subscriptions(message: pb.Parked | pb.SubscriptionUpdate, subscriptions: Sequence[Subscription]) -> None:
    for subscription in subscriptions:
        target = message.subscriptions.add(key=subscription.key)
        if subscription.execution_id:
            target.execution_id = subscription.execution_id
            continue
        target.events.SetInParent()
        for each in subscription.filters:
            filter_ = target.events.filters.add(callback=each.callback, type=each.type)
            filter_.attributes.update(each.attributes)
            for path, expected in each.correlations:
                filter_.correlations.add(path=path, expected=expected)


def fill_parked(message: pb.Parked, parked: m.Parked) -> None:
    if parked.wake_at_ms is not None:
        message.wake_time.CopyFrom(convert.timestamp(parked.wake_at_ms))
    fill_subscriptions(message, parked.subscriptions)
    if parked.retry is not None:
        message.retry.CopyFrom(to_proto(parked.retry, failure_pb2.Retry))
        message.retry_keys.extend(parked.retry.keys)
        message.retry_follows = parked.retry.follows
    if parked.destinations:
        message.destinations.extend(parked.destinations)


def decode_parked(message: pb.Parked) -> m.Parked | m.Faulted:
    """Return the wake time and subscriptions of an execution, or the error that it can't wait for that much."""
    if message.ByteSize() > MAX_WAIT_BYTES:
        detail = f"what it waits for has more than {MAX_WAIT_BYTES} bytes: let `expect` be a short value"
        return m.Faulted(WorkflowError(f"{ERROR_TYPE_BASE}runtime", 500, "Runtime error", detail=detail))
    wake_at_ms = convert.milliseconds(message.wake_time) if message.HasField("wake_time") else None
    retry = None
    if message.HasField("retry"):
        retry = from_proto(message.retry, Retry)
        retry = retry._replace(keys=tuple(message.retry_keys), follows=message.retry_follows)
    destinations = tuple(message.destinations) if message.destinations else ()
    return m.Parked(wake_at_ms, decode_subscriptions(message.subscriptions), retry, destinations)


def decode_update(message: pb.SubscriptionUpdate) -> m.SubscriptionUpdate:
    """Return the subscriptions of a running execution; none, if they are too large."""
    if message.ByteSize() > MAX_WAIT_BYTES:  # the execution faults when it parks with the same subscriptions
        return m.SubscriptionUpdate(message.lease, message.generation, ())
    return m.SubscriptionUpdate(message.lease, message.generation, decode_subscriptions(message.subscriptions))


def decode_subscriptions(messages: Sequence[pb.Subscription]) -> tuple[Subscription, ...]:
    if len(messages) > limits.MAX_SUBSCRIPTIONS:
        raise protocol_violation(f"an execution waits for at most {limits.MAX_SUBSCRIPTIONS} things at a time")
    return tuple(map(_subscription, messages))


def _subscription(message: pb.Subscription) -> Subscription:
    if message.WhichOneof("target") == "execution_id":
        # an empty ID is not the same as none: it is refused like an empty list of filters
        return Subscription(message.key, (), message.execution_id)
    if not 0 < len(message.events.filters) <= limits.MAX_EVENT_FILTERS:
        raise protocol_violation(f"a subscription to events has 1 to {limits.MAX_EVENT_FILTERS} filters")
    return Subscription(message.key, tuple(map(_filter, message.events.filters)))


def _filter(message: pb.EventFilter) -> EventFilter:
    correlations = tuple(Correlation(each.path, each.expected) for each in message.correlations)
    return EventFilter(message.callback, message.type, tuple(sorted(message.attributes.items())), correlations)


Request = pb.AttachRequest


def encode_requests(messages: Sequence[m.RunnerMessage]) -> list[Request]:
    """Return a runner's messages for the stream, as one bundle if it is not too large."""
    request = Request()
    parts = request.bundle.requests
    for message in messages:
        _encode_request(parts.add(), message)
    return [request] if len(parts) > 1 and request.ByteSize() <= MAX_BUNDLE_BYTES else list(parts)


def decode_request(request: Request) -> Iterator[tuple[m.RunnerMessage | None, int]]:
    """Yield a runner's messages with their sizes in bytes; None: this version does not know the kind of message."""
    if not request.HasField("bundle"):
        yield _decode_request(request), request.ByteSize()
        return
    for part in request.bundle.requests:
        if part.WhichOneof("message") in ("hello", "bundle"):
            raise protocol_violation("a stream has one hello, and a bundle no bundles")
        yield _decode_request(part), part.ByteSize()


def exit_outcome_to_proto(outcome: m.Outcome) -> pb.Outcome:
    """Return the outcome of what a process was evaluating when it ended, for the report of its exit."""
    message = pb.Outcome()
    _fill_outcome(message, outcome)
    return message


def exit_outcome_from_proto(message: pb.Outcome) -> m.Outcome:
    if message.WhichOneof("result") not in ("faulted", "released"):
        raise protocol_violation("what a process was evaluating when it ended is faulted or released")
    ending = _ending(message)
    return m.Outcome(message.lease, ending._replace(to_back=True) if isinstance(ending, m.Released) else ending)


def _encode_request(request: Request, message: m.RunnerMessage) -> None:
    match message:
        case m.CheckpointBatch():
            add_checkpoint = request.checkpoints.checkpoints.add
            for checkpoint in message.checkpoints:
                _fill_checkpoint(add_checkpoint(), checkpoint)
        case m.OutcomeBatch():
            add_outcome = request.outcomes.outcomes.add
            for outcome in message.outcomes:
                _fill_outcome(add_outcome(), outcome)
        case m.SubscriptionBatch():
            for lease, generation, subscriptions in message.updates:
                fill_subscriptions(request.subscriptions.updates.add(lease=lease, generation=generation), subscriptions)
        case m.Credit():
            request.credit.assignments = message.assignments
        case _:
            _encode_rare(request, message)


def _decode_request(request: Request) -> m.RunnerMessage | None:
    match request.WhichOneof("message"):
        case "checkpoints":
            return m.CheckpointBatch(tuple(map(_checkpoint, request.checkpoints.checkpoints)))
        case "outcomes":
            return m.OutcomeBatch(tuple(map(_outcome, request.outcomes.outcomes)))
        case "subscriptions":
            return m.SubscriptionBatch(tuple(map(decode_update, request.subscriptions.updates)))
        case "credit":
            return m.Credit(request.credit.assignments)
        case name:
            message: m.RunnerMessage | None = _decode_rare(request, name or "")
            return message


def _fill_checkpoint(message: pb.Checkpoint, checkpoint: m.Checkpoint) -> None:
    lease, index, entry, compacts, reply, consumed, events, number, history = checkpoint
    message.lease = lease
    message.index = index
    if entry is not None:
        fill_entry(message.entry, entry)
    if compacts:
        message.compacts = True
    if reply is not None:
        message.reply.ParseFromString(reply)
        message.reply.SetInParent()
    if consumed:
        message.consumed = consumed
    if events:
        message.events.extend(map(_event_to_proto, events))
    if number:
        message.number = number
    if history:
        message.history = history


def _checkpoint(item: pb.Checkpoint) -> m.Checkpoint:
    entry = entry_from_proto(item.entry) if item.HasField("entry") else None
    reply = item.reply.SerializeToString() if item.HasField("reply") else None
    events = _events(item.events) if item.events else ()
    return m.Checkpoint(
        item.lease, item.index, entry, item.compacts, reply, item.consumed, events, item.number, item.history
    )


def _fill_outcome(message: pb.Outcome, outcome: m.Outcome) -> None:
    lease, ending, events, history, checkpoints = outcome
    message.lease = lease
    match ending:
        case m.Completed():
            message.completed.output = ending.output
            if ending.reply is not None:
                message.completed.reply.ParseFromString(ending.reply)
                message.completed.reply.SetInParent()
        case m.Faulted():
            message.faulted.CopyFrom(to_proto(ending.error, failure_pb2.WorkflowError))
        case m.Parked():
            message.parked.SetInParent()
            fill_parked(message.parked, ending)
        case m.Released():
            message.released.reason = ending.reason
            message.released.charged = ending.charged
    if events:
        message.events.extend(map(_event_to_proto, events))
    if history:
        message.history = history
    for checkpoint in checkpoints:
        _fill_checkpoint(message.checkpoints.add(), checkpoint)


def _outcome(message: pb.Outcome) -> m.Outcome:
    events = _events(message.events) if message.events else ()
    checkpoints = tuple(map(_checkpoint, message.checkpoints)) if message.checkpoints else ()
    return m.Outcome(message.lease, _ending(message), events, message.history, checkpoints)


def _ending(message: pb.Outcome) -> m.Ending:
    match message.WhichOneof("result"):
        case "completed":
            completed = message.completed
            reply = completed.reply.SerializeToString() if completed.HasField("reply") else None
            return m.Completed(completed.output, reply)
        case "faulted":
            return m.Faulted(from_proto(message.faulted, WorkflowError))
        case "parked":
            return decode_parked(message.parked)
        case _:
            return m.Released(message.released.reason, message.released.charged)


def _event_to_proto(event: LifecycleEvent) -> pb.LifecycleEvent:
    type_, key, time_ms, data = event
    return pb.LifecycleEvent(type=type_, key=key, time=convert.timestamp(time_ms), data=data)


def _events(messages: Sequence[pb.LifecycleEvent]) -> tuple[LifecycleEvent, ...]:
    # callers have imported the module anyway; other processes should not load it and the body parsers that it imports
    from flowhook.events.lifecycle import LifecycleEvent  # noqa: PLC0415 - see above

    return tuple(LifecycleEvent(each.type, each.key, convert.milliseconds(each.time), each.data) for each in messages)


# messages of which there are few, by the names of their fields in a request or a response: converted by their types
_RARE: Final[Mapping[str, type[Any]]] = {
    "call_reports": m.CallReports,
    "drain": m.Drain,
    "hello": m.Hello,
    "lifecycle_filter": m.LifecycleFilter,
    "renewal": m.Renewal,
    "renewed": m.Renewed,
    "revocation": m.Revocation,
    "welcome": m.Welcome,
}
_RARE_FIELDS: Final = {kind: name for name, kind in _RARE.items()}


def _encode_rare(envelope: pb.AttachRequest | pb.AttachResponse, message: object) -> None:
    part = getattr(envelope, _RARE_FIELDS[type(message)])
    part.SetInParent()
    part.MergeFrom(to_proto(message, type(part)))


def _decode_rare(envelope: pb.AttachRequest | pb.AttachResponse, name: str) -> Any:
    """Return one of these messages; None: this version does not know its kind."""
    return from_proto(getattr(envelope, name), _RARE[name]) if name in _RARE else None


Response = pb.AttachResponse


def encode_responses(messages: Sequence[m.RouterMessage], *, sent_ms: int = 0) -> list[Response]:
    """Return a router's messages for the stream, as one bundle if it is not too large; `sent_ms`: the router's time."""
    response = Response()
    parts = response.bundle.responses
    for message in messages:
        _encode_response(parts.add(), message)
    found = [response] if len(parts) > 1 and response.ByteSize() <= MAX_BUNDLE_BYTES else list(parts)
    for each in found:
        each.sent_time_ms = sent_ms
    return found


def decode_response(response: Response) -> Iterator[m.RouterMessage]:
    """Yield a router's messages, without those of a kind that this version does not know."""
    for part in response.bundle.responses if response.HasField("bundle") else (response,):
        message = _decode_response(part)
        if message is not None:
            yield message


def _encode_response(response: Response, message: m.RouterMessage) -> None:
    match message:
        case m.AssignmentBatch():
            _fill_assignments(response.assignments, message.assignments)
        case m.CheckpointAck():
            _fill_ack(response.checkpointed, message.checkpoints)
        case m.Settlement():
            response.settlement.leases.extend(message.leases)
        case m.EventDeliveryBatch():
            add_delivery = response.deliveries.deliveries.add
            for lease, generation, number, entry in message.deliveries:
                fill_entry(add_delivery(lease=lease, generation=generation, number=number).entry, entry)
        case m.DestinationUpdates():
            for flow_id, origin, state in message.updates:
                response.destinations.updates.add(flow_id=flow_id, origin=origin, state=state.value)
        case _:
            _encode_rare(response, message)


def _decode_response(response: Response) -> m.RouterMessage | None:
    match response.WhichOneof("message"):
        case "assignments":
            return m.AssignmentBatch(tuple(map(_assignment, response.assignments.assignments)))
        case "checkpointed":
            found = response.checkpointed.checkpoints
            return m.CheckpointAck(tuple(m.DurableCheckpoint(item.lease, item.index, item.number) for item in found))
        case "settlement":
            return m.Settlement(tuple(response.settlement.leases))
        case "deliveries":
            return m.EventDeliveryBatch(tuple(map(_delivery, response.deliveries.deliveries)))
        case "destinations":
            return m.DestinationUpdates(tuple(map(_destination, response.destinations.updates)))
        case name:
            message: m.RouterMessage | None = _decode_rare(response, name or "")
            return message


def _fill_assignments(batch: pb.AssignmentBatch, assignments: Sequence[m.Assignment]) -> None:
    add = batch.assignments.add
    for lease, attempt, revision, event, journal, start, scope, destination, failure, resumed in assignments:
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
        if destination:
            message.destination = destination
            message.destination_failure = failure
        if resumed:
            message.resumed = True


def _assignment(item: pb.Assignment) -> m.Assignment:
    journal = tuple(map(entry_from_proto, item.journal)) if item.journal else ()
    return m.Assignment(
        item.lease,
        item.attempt,
        item.flow_revision,
        item.event,
        journal,
        item.journal_start,
        item.effect_scope,
        item.destination,
        item.destination_failure,
        item.resumed,
    )


def _destination(item: pb.DestinationUpdate) -> m.DestinationUpdate:
    try:
        state = m.DestinationState(item.state)
    except ValueError:  # of a later version
        state = m.DestinationState.UNKNOWN
    return m.DestinationUpdate(item.flow_id, item.origin, state)


def _delivery(item: pb.EventDelivery) -> m.EventDelivery:
    return m.EventDelivery(item.lease, item.generation, item.number, entry_from_proto(item.entry))


def _fill_ack(ack: pb.CheckpointAck, checkpoints: Sequence[m.DurableCheckpoint]) -> None:
    add = ack.checkpoints.add
    for lease, index, number in checkpoints:
        message = add()
        message.lease = lease
        message.index = index
        message.number = number
