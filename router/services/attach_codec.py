"""Validates and decodes the messages of runners; one that no Flowhook runner sends is a protocol violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.expressions import InvalidExpression
from flowhook.lifecycle import MAX_DATA_BYTES, LifecycleEvent, is_valid_data
from flowhook.model import EventFilter, RaiseOrigin, Subscription, WorkflowError
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert
from router.dispatch.faults import runtime_error
from router.dispatch.runner_port import (
    AttemptCompleted,
    AttemptOutcome,
    AttemptParked,
    AttemptReleased,
    LiveSubscriptions,
    ReportedCheckpoint,
)
from router.scheduling.matching import filter_fingerprint

MAX_KEY_BYTES: Final = 64 * limits.KIB
"""Bytes of a subscription's key, which becomes the key of a journal entry."""

MAX_WAIT_BYTES: Final = limits.MIB
"""Serialized size of all subscriptions of an execution; they contain expected values from the flow's data."""

MAX_RUNNER_ID: Final = 63
MAX_COMPONENTS: Final = 1000
MAX_COMPONENT_NAME: Final = 255
"""Characters of the name of a function."""

MAX_HELD_LEASES: Final = 64 * 1024
MAX_LEASE_BYTES: Final = 64
"""Bounds of the leases a runner claims to hold; it works on a few thousand executions at most."""

MAX_ERROR_TEXT: Final = limits.MAX_ERROR_DETAIL_BYTES
"""Characters to which each text of an error is cut."""

MAX_EXECUTION_ID: Final = 64
MAX_EVENT_KEY: Final = 64


def protocol_violation(message: str) -> InvalidError:
    """Return the error that ends the stream of a runner which violates the protocol."""
    return InvalidError(message, reason="ATTACH_PROTOCOL_VIOLATION")


def check_runner_id(runner_id: str) -> None:
    """Refuse an invalid runner ID.

    Raises:
        InvalidError: see `protocol_violation`.
    """
    if not 0 < len(runner_id) <= MAX_RUNNER_ID:
        raise protocol_violation(f"a runner ID has 1 to {MAX_RUNNER_ID} characters")


def check_hello(hello: pb.Hello) -> None:
    """Refuse a hello that exceeds the limits.

    Raises:
        InvalidError: see `protocol_violation`.
    """
    check_runner_id(hello.runner_id)
    if len(hello.components) > MAX_COMPONENTS or any(len(name) > MAX_COMPONENT_NAME for name in hello.components):
        raise protocol_violation(
            f"a runner calls at most {MAX_COMPONENTS} functions, with names of at most {MAX_COMPONENT_NAME} characters"
        )
    if len(hello.held_leases) > MAX_HELD_LEASES or any(len(token) > MAX_LEASE_BYTES for token in hello.held_leases):
        raise protocol_violation(f"a runner holds at most {MAX_HELD_LEASES} leases, of at most {MAX_LEASE_BYTES} bytes")


def decode_checkpoint(message: pb.Checkpoint) -> ReportedCheckpoint:
    """Decode a checkpoint: a journal entry, a reply, an accepted event or lifecycle events.

    Raises:
        InvalidError: see `protocol_violation`.
    """
    if message.index < 0:
        raise protocol_violation("the index of a checkpoint counts from 0")
    entry = convert.journal_entry_from_proto(message.entry) if message.HasField("entry") else None
    reply = message.reply.SerializeToString() if message.HasField("reply") else None
    happened = _events(message.events) if message.events else ()
    return ReportedCheckpoint(
        message.lease,
        message.index,
        entry,
        message.compacts,
        reply,
        message.arrival,
        happened,
        message.number,
        _history(message.history),
    )


def _history(told: bytes) -> bytes:
    """Return the task history to store: empty when it is too large to be useful."""
    return told if len(told) <= limits.MAX_HISTORY_BYTES else b""


def _events(messages: Sequence[pb.LifecycleEvent]) -> tuple[LifecycleEvent, ...]:
    found = tuple(map(convert.lifecycle_event_from_proto, messages))
    for event in found:
        if not (0 < len(event.key) <= MAX_EVENT_KEY and event.key.isascii() and is_valid_data(event.data)):
            raise protocol_violation(
                f"an event has a key of 1 to {MAX_EVENT_KEY} ASCII characters, and {MAX_DATA_BYTES} bytes of JSON"
            )
    return found


def decode_live_subscriptions(message: pb.Listening) -> LiveSubscriptions:
    """Decode the subscriptions of a running execution; none, if they are too large.

    Raises:
        InvalidError: see `protocol_violation`.
    """
    if message.ByteSize() > MAX_WAIT_BYTES:  # the execution faults when it parks with the same subscriptions
        return LiveSubscriptions(message.lease, message.generation, ())
    return LiveSubscriptions(message.lease, message.generation, _subscriptions(message.subscriptions))


def decode_outcome(message: pb.Outcome) -> AttemptOutcome:
    """Decode the outcome of an attempt.

    Raises:
        InvalidError: see `protocol_violation`.
    """
    checkpoints = tuple(decode_checkpoint(item) for item in message.checkpoints)
    result = _result(message)
    happened = _events(message.events) if message.events else ()
    return AttemptOutcome(message.lease, checkpoints, result, happened, _history(message.history))


def decode_exit_outcome(message: pb.Outcome) -> AttemptOutcome:
    """Decode the outcome of the execution that a process was evaluating when it ended.

    Raises:
        InvalidError: it is neither faulted nor released; see `protocol_violation`.
    """
    if message.WhichOneof("result") not in ("faulted", "released"):
        raise protocol_violation("what a process was evaluating when it ended is faulted or released")
    result = _result(message)
    if isinstance(result, AttemptReleased):
        result = result._replace(to_back=True)
    return AttemptOutcome(message.lease, (), result)


def _result(message: pb.Outcome) -> AttemptCompleted | WorkflowError | AttemptParked | AttemptReleased:
    kind = message.WhichOneof("result")
    if kind == "completed":
        completed = message.completed
        reply = completed.reply.SerializeToString() if completed.HasField("reply") else None
        return AttemptCompleted(completed.output, reply)
    if kind == "faulted":
        return _bounded(convert.error_from_proto(message.faulted))
    if kind == "parked":
        return _parked(message.parked)
    return AttemptReleased(message.released.reason, message.released.charged)


def _bounded(error: WorkflowError) -> WorkflowError:
    """Return an error with its texts cut to their limits: a flow may give them any length."""
    response = error.response
    if response is not None:
        url, body = response.url[:MAX_ERROR_TEXT], response.body[: limits.MAX_ERROR_BODY_BYTES]
        response = response._replace(url=url, body=body)
    return replace(
        error,
        type=error.type[:MAX_ERROR_TEXT],
        title=error.title[:MAX_ERROR_TEXT],
        instance=error.instance[:MAX_ERROR_TEXT],
        detail=error.detail[:MAX_ERROR_TEXT],
        response=response,
        raising=error.raising and RaiseOrigin(*(text[:MAX_ERROR_TEXT] for text in error.raising)),
    )


def _parked(message: pb.Parked) -> AttemptParked | WorkflowError:
    """Decode the wake time and subscriptions of an execution, or return the error that it can't wait."""
    wake_at_ms = convert.milliseconds(message.wake_time) if message.HasField("wake_time") else None
    if message.ByteSize() > MAX_WAIT_BYTES:
        return runtime_error(f"what it waits for has more than {MAX_WAIT_BYTES} bytes: let `expect` be a short value")
    return AttemptParked(wake_at_ms, _subscriptions(message.subscriptions))


def _subscriptions(messages: Sequence[pb.Subscription]) -> tuple[Subscription, ...]:
    if len(messages) > limits.MAX_SUBSCRIPTIONS:
        raise protocol_violation(f"an execution waits for at most {limits.MAX_SUBSCRIPTIONS} things at a time")
    return tuple(_subscription(item) for item in messages)


def _subscription(message: pb.Subscription) -> Subscription:
    if not 0 < len(message.key.encode()) <= MAX_KEY_BYTES:
        raise protocol_violation(f"the key of a subscription has 1 to {MAX_KEY_BYTES} bytes")
    if message.WhichOneof("target") == "execution_id":
        if not 0 < len(message.execution_id) <= MAX_EXECUTION_ID:
            raise protocol_violation(f"the ID of an awaited execution has 1 to {MAX_EXECUTION_ID} characters")
    elif not 0 < len(message.events.filters) <= limits.MAX_EVENT_FILTERS:
        raise protocol_violation(f"a subscription to events has 1 to {limits.MAX_EVENT_FILTERS} filters")
    subscription = convert.subscription_from_proto(message)
    for filter_ in subscription.filters:
        _check(filter_)
    return subscription


def _check(filter_: EventFilter) -> None:
    try:
        filter_fingerprint(filter_)
    except InvalidExpression as error:
        raise protocol_violation(f"the path of a correlation: {error}") from None
    except (orjson.JSONDecodeError, RecursionError):
        raise protocol_violation("the value that a correlation expects is not JSON") from None
