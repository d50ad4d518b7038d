"""Checks what runners send; what no Flowhook runner sends is a protocol violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from flowhook import limits
from flowhook.attach.limits import (
    MAX_COMPONENT_NAME,
    MAX_COMPONENTS,
    MAX_ERROR_TEXT,
    MAX_EVENT_KEY,
    MAX_EXECUTION_ID,
    MAX_HELD_LEASES,
    MAX_KEY_BYTES,
    MAX_LEASE_BYTES,
    MAX_RETRY_KEYS,
    MAX_RETRY_KEYS_BYTES,
    MAX_RUNNER_ID,
    protocol_violation,
)
from flowhook.attach.messages import Checkpoint, Faulted, Hello, Outcome, Parked
from flowhook.events.lifecycle import MAX_DATA_BYTES, LifecycleEvent, is_valid_data
from flowhook.expressions import InvalidExpression
from flowhook.model import EventFilter, RaiseOrigin, Retry, Subscription, WorkflowError
from router.scheduling.matching import filter_fingerprint


def check_runner_id(runner_id: str) -> None:
    """Refuse an invalid runner ID.

    Raises:
        InvalidError: a protocol violation.
    """
    if not 0 < len(runner_id) <= MAX_RUNNER_ID:
        raise protocol_violation(f"a runner ID has 1 to {MAX_RUNNER_ID} characters")


def check_hello(hello: Hello) -> None:
    """Refuse a hello that exceeds the limits.

    Raises:
        InvalidError: a protocol violation.
    """
    check_runner_id(hello.runner_id)
    if len(hello.components) > MAX_COMPONENTS or any(len(name) > MAX_COMPONENT_NAME for name in hello.components):
        raise protocol_violation(
            f"a runner calls at most {MAX_COMPONENTS} functions, with names of at most {MAX_COMPONENT_NAME} characters"
        )
    if len(hello.held_leases) > MAX_HELD_LEASES or any(len(lease) > MAX_LEASE_BYTES for lease in hello.held_leases):
        raise protocol_violation(f"a runner holds at most {MAX_HELD_LEASES} leases, of at most {MAX_LEASE_BYTES} bytes")


def checked_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint, without a history that is too large to be useful.

    Raises:
        InvalidError: a protocol violation.
    """
    if checkpoint.index < 0:
        raise protocol_violation("the index of a checkpoint counts from 0")
    if checkpoint.events:
        _check_events(checkpoint.events)
    return checkpoint if len(checkpoint.history) <= limits.MAX_HISTORY_BYTES else checkpoint._replace(history=b"")


def checked_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome with what may have any length in a flow cut to its limits.

    Raises:
        InvalidError: a protocol violation.
    """
    ending = outcome.ending
    if isinstance(ending, Parked):
        check_subscriptions(ending.subscriptions)
        if ending.retry is not None:
            outcome = outcome._replace(ending=ending._replace(retry=_checked_retry(ending.retry)))
    elif isinstance(ending, Faulted):
        outcome = outcome._replace(ending=Faulted(_bounded(ending.error)))
    if outcome.events:
        _check_events(outcome.events)
    if outcome.checkpoints:
        outcome = outcome._replace(checkpoints=tuple(map(checked_checkpoint, outcome.checkpoints)))
    return outcome if len(outcome.history) <= limits.MAX_HISTORY_BYTES else outcome._replace(history=b"")


def check_subscriptions(subscriptions: Sequence[Subscription]) -> None:
    """Refuse subscriptions that can't be stored or matched.

    Raises:
        InvalidError: a protocol violation.
    """
    for subscription in subscriptions:
        if not 0 < len(subscription.key.encode()) <= MAX_KEY_BYTES:
            raise protocol_violation(f"the key of a subscription has 1 to {MAX_KEY_BYTES} bytes")
        if not subscription.filters and not 0 < len(subscription.execution_id) <= MAX_EXECUTION_ID:
            raise protocol_violation(f"the ID of an awaited execution has 1 to {MAX_EXECUTION_ID} characters")
        for filter_ in subscription.filters:
            _check_filter(filter_)


def _checked_retry(retry: Retry) -> Retry:
    sizes = [len(key.encode()) for key in retry.keys]
    if not 0 < len(sizes) <= MAX_RETRY_KEYS or not min(sizes) or sum(sizes) > MAX_RETRY_KEYS_BYTES:
        raise protocol_violation(
            f"1 to {MAX_RETRY_KEYS} waits for retries are named, by keys of at most {MAX_RETRY_KEYS_BYTES} bytes in all"
        )
    if retry.tries < 1 or retry.others < 0:
        raise protocol_violation("tries count from 1, other retries from 0")
    return retry._replace(error=_bounded(retry.error))


def _check_filter(filter_: EventFilter) -> None:
    try:
        filter_fingerprint(filter_)
    except InvalidExpression as error:
        raise protocol_violation(f"the path of a correlation: {error}") from None
    except (orjson.JSONDecodeError, RecursionError):
        raise protocol_violation("the value that a correlation expects is not JSON") from None


def _check_events(events: Sequence[LifecycleEvent]) -> None:
    for event in events:
        if not (0 < len(event.key) <= MAX_EVENT_KEY and event.key.isascii() and is_valid_data(event.data)):
            raise protocol_violation(
                f"an event has a key of 1 to {MAX_EVENT_KEY} ASCII characters, and {MAX_DATA_BYTES} bytes of JSON"
            )


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
