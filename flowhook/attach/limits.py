"""Limits of the Attach protocol; estimated sizes of its messages, and batches split into parts that fit into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from flowhook import limits
from flowhook.attach.messages import (
    Assignment,
    Checkpoint,
    Completed,
    EventDelivery,
    Outcome,
    Parked,
    SubscriptionUpdate,
)
from flowhook.errors import InvalidError
from flowhook.model import JournalEntry

if TYPE_CHECKING:
    from flowhook.events.lifecycle import LifecycleEvent  # processes that report none should not load the module

MAX_CREDIT: Final = 1024  # maximum credit (assignments) that one message grants
# maximum size of a bundle; larger sets of messages are sent one by one
MAX_BUNDLE_BYTES: Final = limits.MAX_MESSAGE_BYTES // 4
MAX_RUNNER_ID: Final = 63
MAX_COMPONENTS: Final = 1000
MAX_COMPONENT_NAME: Final = 255  # characters of the name of a function
# bounds of the leases that a runner claims to hold; it works on a few thousand executions at most
MAX_HELD_LEASES: Final = 64 * 1024
MAX_LEASE_BYTES: Final = 64
# serialized size of all subscriptions of an execution; they contain expected values from the flow's data
MAX_WAIT_BYTES: Final = limits.MIB
MAX_KEY_BYTES: Final = 64 * limits.KIB  # bytes of a subscription's key, which becomes the key of a journal entry
# bounds of the keys of waits for retries that an operator may end
MAX_RETRY_KEYS: Final = 20
MAX_RETRY_KEYS_BYTES: Final = 128 * limits.KIB
MAX_EXECUTION_ID: Final = 64
MAX_EVENT_KEY: Final = 64
MAX_DESTINATIONS: Final = 16  # destinations that one execution waits for
MAX_ORIGIN: Final = 300  # characters of the origin of a destination
MAX_CAUSE: Final = 300  # characters of why it is down
MAX_CALL_REPORTS: Final = 1000
MAX_RETRY_AFTER_MS: Final = 3_600_000  # longest pause that a server may ask for with `Retry-After`

MAX_ERROR_TEXT: Final = limits.MAX_ERROR_DETAIL_BYTES  # characters to which each text of an error is cut


def is_origin(text: str) -> bool:
    """Whether a text may name a destination in reports of calls, and in what waits for it.

    What a flow calls need not be: senders may choose it, and some clients accept a space in the name of a host.
    """
    return 0 < len(text) <= MAX_ORIGIN and text.isascii() and text.isprintable() and " " not in text


def protocol_violation(message: str) -> InvalidError:
    """Return the error that ends the stream of a peer that violates the protocol."""
    return InvalidError(message, reason="ATTACH_PROTOCOL_VIOLATION")


# maximum estimated size of one message; overhead stays well below the rest of `limits.MAX_MESSAGE_BYTES`
MAX_PART_BYTES: Final = 8 * limits.MIB
OVERHEAD: Final = 2 * limits.KIB  # bytes of everything in a report that is not counted; more than there are
ENTRY_OVERHEAD: Final = 16  # bytes of a journal entry beside its key and its result
_Item = TypeVar("_Item")


def split(
    items: Sequence[_Item], size_of: Callable[[_Item], int], limit: int = MAX_PART_BYTES
) -> list[tuple[_Item, ...]]:
    """Return the items in order, in parts of at most `limit` bytes by `size_of`, or of one larger item."""
    parts: list[list[_Item]] = [[]]
    total = 0
    for item in items:
        size = size_of(item)
        total += size
        if total > limit and parts[-1]:
            parts.append([])
            total = size
        parts[-1].append(item)
    return [tuple(part) for part in parts]


def assignment_size(assignment: Assignment) -> int:
    return len(assignment.event) + sum(map(entry_size, assignment.journal))


def delivery_size(delivery: EventDelivery) -> int:
    return entry_size(delivery.entry)


def checkpoint_size(checkpoint: Checkpoint) -> int:
    size = OVERHEAD + len(checkpoint.history) + len(checkpoint.reply or b"")
    if checkpoint.entry is not None:
        size += entry_size(checkpoint.entry)
    return size + (events_size(checkpoint.events) if checkpoint.events else 0)


def update_size(update: SubscriptionUpdate) -> int:
    return OVERHEAD + sum(each.size for each in update.subscriptions)


def outcome_size(outcome: Outcome) -> int:
    size = OVERHEAD + len(outcome.history) + (events_size(outcome.events) if outcome.events else 0)
    match outcome.ending:
        case Completed(output=output):
            size += len(output)
        case Parked(subscriptions=subscriptions, retry=retry):
            size += sum(each.size for each in subscriptions)
            size += 0 if retry is None else retry.error.size + sum(map(len, retry.keys))
    return size


def events_size(events: Sequence[LifecycleEvent]) -> int:
    return sum(len(each.data) + 256 for each in events)


def entry_size(entry: JournalEntry) -> int:
    result = len(entry.output or b"") if entry.error is None else entry.error.size
    return ENTRY_OVERHEAD + len(entry.key) + result
