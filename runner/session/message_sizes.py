"""Estimates the sizes of messages to the router, and splits batches into parts that fit into one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from flowhook import limits
from flowhook.lifecycle import LifecycleEvent
from runner.session.messages import Checkpoint, Completed, Outcome, Parked, SubscriptionUpdate

MAX_PART_BYTES: Final = 8 * limits.MIB
"""Maximum estimated size of one message; overhead stays well below the rest of `limits.MAX_MESSAGE_BYTES`."""

_Item = TypeVar("_Item")


def split(items: Sequence[_Item], size_of: Callable[[_Item], int]) -> list[tuple[_Item, ...]]:
    """Return the items in order, split into parts that each fit into one message."""
    parts: list[list[_Item]] = [[]]
    size = 0
    for item in items:
        size += size_of(item)
        if size > MAX_PART_BYTES and parts[-1]:
            parts.append([])
            size = size_of(item)
        parts[-1].append(item)
    return [tuple(part) for part in parts]


def checkpoint_size(checkpoint: Checkpoint) -> int:
    """Return the estimated size of a checkpoint in a message, in bytes."""
    reply = checkpoint.reply
    size = 0 if reply is None else len(reply.body) + sum(len(name) + len(value) for name, value in reply.headers)
    entry = checkpoint.entry
    output = None if entry is None else entry.output
    if entry is not None and entry.error is not None:
        size += entry.error.size
    return size + len(checkpoint.history) + _size(output) + (events_size(checkpoint.events) if checkpoint.events else 0)


def listening_size(listening: SubscriptionUpdate) -> int:
    """Return the estimated size of an execution's subscriptions in a message, in bytes."""
    return _size(None) + sum(each.size for each in listening.subscriptions)


def outcome_size(outcome: Outcome) -> int:
    """Return the estimated size of an outcome in a message, in bytes."""
    size = len(outcome.history) + (events_size(outcome.events) if outcome.events else 0)
    match outcome.ending:
        case Completed(output=output):
            return size + _size(output)
        case Parked(subscriptions=subscriptions):
            return size + _size(None) + sum(each.size for each in subscriptions)
    return size + _size(None)


def events_size(events: Sequence[LifecycleEvent]) -> int:
    """Return the estimated size of lifecycle events in a message, in bytes."""
    return sum(len(each.data) + 256 for each in events)


def _size(output: bytes | None) -> int:
    return len(output or b"") + 2 * limits.KIB
