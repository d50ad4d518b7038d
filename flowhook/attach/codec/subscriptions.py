"""Encodes and decodes subscriptions of executions, within the limits of their number and size."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook import limits
from flowhook.attach.limits import MAX_WAIT_BYTES, protocol_violation
from flowhook.attach.messages import Faulted, Parked, SubscriptionUpdate
from flowhook.model import ERROR_TYPE_BASE, Correlation, EventFilter, Subscription, WorkflowError
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert


def fill_subscriptions(message: pb.Parked | pb.Listening, subscriptions: Sequence[Subscription]) -> None:
    """Add subscriptions to a message."""
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


def fill_parked(message: pb.Parked, parked: Parked) -> None:
    """Fill a message with what an execution waits for."""
    if parked.wake_at_ms is not None:
        message.wake_time.CopyFrom(convert.timestamp(parked.wake_at_ms))
    fill_subscriptions(message, parked.subscriptions)
    if parked.retry is not None:
        message.retry.CopyFrom(convert.retry_to_proto(parked.retry))
        message.retry_keys.extend(parked.retry.keys)


def decode_parked(message: pb.Parked) -> Parked | Faulted:
    """Return the wake time and subscriptions of an execution, or the error that it can't wait for that much.

    Raises:
        InvalidError: there are too many (a protocol violation).
    """
    if message.ByteSize() > MAX_WAIT_BYTES:
        detail = f"what it waits for has more than {MAX_WAIT_BYTES} bytes: let `expect` be a short value"
        return Faulted(WorkflowError(f"{ERROR_TYPE_BASE}runtime", 500, "Runtime error", detail=detail))
    wake_at_ms = convert.milliseconds(message.wake_time) if message.HasField("wake_time") else None
    retry = convert.retry_from_proto(message.retry, message.retry_keys) if message.HasField("retry") else None
    return Parked(wake_at_ms, decode_subscriptions(message.subscriptions), retry)


def decode_update(message: pb.Listening) -> SubscriptionUpdate:
    """Return the subscriptions of a running execution; none, if they are too large.

    Raises:
        InvalidError: there are too many (a protocol violation).
    """
    if message.ByteSize() > MAX_WAIT_BYTES:  # the execution faults when it parks with the same subscriptions
        return SubscriptionUpdate(message.lease, message.generation, ())
    return SubscriptionUpdate(message.lease, message.generation, decode_subscriptions(message.subscriptions))


def decode_subscriptions(messages: Sequence[pb.Subscription]) -> tuple[Subscription, ...]:
    """Return subscriptions.

    Raises:
        InvalidError: there are too many, or one has no filters or too many (a protocol violation).
    """
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
