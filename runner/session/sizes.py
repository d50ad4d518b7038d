"""How large what is said to the router is, roughly, and parts of it that fit into messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from flowhook import limits
from flowhook.lifecycle import LifecycleEvent
from runner.session.messages import Checkpoint, Completed, Listening, Outcome, Parked

MAX_PART_BYTES: Final = 8 * limits.MIB
"""Results in one message; what a message holds beside them is well below the rest of `limits.MAX_MESSAGE_BYTES`."""

_Item = TypeVar("_Item")


def parts(items: Sequence[_Item], size_of: Callable[[_Item], int]) -> list[tuple[_Item, ...]]:
    """Return the items in order, in parts that fit into a message each."""
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
    """Return how large a journal entry is in a message."""
    reply = checkpoint.reply
    size = 0 if reply is None else len(reply.body) + sum(len(name) + len(value) for name, value in reply.headers)
    entry = checkpoint.entry
    output = None if entry is None else entry.output
    if entry is not None and entry.error is not None:
        size += entry.error.size
    return size + len(checkpoint.history) + _size(output) + (events_size(checkpoint.events) if checkpoint.events else 0)


def listening_size(listening: Listening) -> int:
    """Return how large it is in a message what an execution waits for."""
    return _size(None) + sum(each.size for each in listening.subscriptions)


def outcome_size(outcome: Outcome) -> int:
    """Return how large the end of an attempt is in a message."""
    size = len(outcome.history) + (events_size(outcome.events) if outcome.events else 0)
    match outcome.ending:
        case Completed(output=output):
            return size + _size(output)
        case Parked(subscriptions=subscriptions):
            return size + _size(None) + sum(each.size for each in subscriptions)
    return size + _size(None)


def events_size(events: Sequence[LifecycleEvent]) -> int:
    """Return how large it is in a message what happened."""
    return sum(len(each.data) + 256 for each in events)


def _size(output: bytes | None) -> int:
    return len(output or b"") + 2 * limits.KIB
