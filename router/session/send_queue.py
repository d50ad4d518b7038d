"""The bounded queue of what waits to be sent to a runner.

A runner whose queue is full gets no more work until some of it is sent (back-pressure). The queue of one that leaves
too many revocations unread overflows, so that its stream can be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from flowhook import limits
from flowhook.attach.limits import MAX_PART_BYTES, assignment_size, delivery_size, split
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
)

MAX_BATCH_BYTES: Final = MAX_PART_BYTES
"""Bytes of events and journals in one message; a larger assignment is sent alone."""

MAX_UNSENT_BYTES: Final = 16 * limits.MIB
"""Bytes of events and journals that may be queued before a runner gets no more work."""

MAX_UNSENT_REVOCATIONS: Final = 64 * 1024
"""Revoked leases that may be queued for each reason; a runner holds a few thousand leases at most."""

_Item = TypeVar("_Item")


class SendQueue:
    """Messages to one runner; see `messages` for what each of them means."""

    def __init__(self) -> None:
        self._assignments: list[Assignment] = []
        self._deliveries: list[EventDelivery] = []
        self._durable: dict[bytes, DurableCheckpoint] = {}
        self._wanted: frozenset[str] | None = None
        self._settled: list[bytes] = []
        self._revoked: dict[str, list[bytes]] = {}
        self._renewed: int | None = None
        self._drain: float | None = None
        self._unsent_bytes = 0
        self._sending = 0

    @property
    def full(self) -> bool:
        """Whether so much is queued that no more work should be assigned for now."""
        return self._unsent_bytes >= MAX_UNSENT_BYTES

    def assign(self, assignments: Sequence[Assignment]) -> None:
        """Queue assignments."""
        self._assignments += assignments
        self._unsent_bytes += sum(map(assignment_size, assignments))

    def deliver(self, delivery: EventDelivery) -> None:
        """Queue an event or end for a running execution; each execution has at most one at a time."""
        self._deliveries.append(delivery)
        self._unsent_bytes += delivery_size(delivery)

    def acknowledge(self, lease: bytes, index: int, number: int = 0) -> None:
        """Acknowledge an execution's journal up to `index`, and checkpoints without an entry up to `number`."""
        known = self._durable.get(lease)
        if known is not None:
            index, number = max(index, known.index), max(number, known.number)
        self._durable[lease] = DurableCheckpoint(lease, index, number)

    def want(self, types: Collection[str]) -> None:
        """Queue the types of lifecycle events to report."""
        self._wanted = frozenset(types)

    def settle(self, leases: Sequence[bytes]) -> None:
        """Acknowledge outcomes."""
        self._settled += leases

    def revoke(self, leases: Sequence[bytes], reason: str) -> bool:
        """Queue the revocation of leases; false: too many are queued, and all of them are dropped."""
        unsent = self._revoked.setdefault(reason, [])
        unsent += leases
        if len(unsent) <= MAX_UNSENT_REVOCATIONS:
            return True
        self._revoked = {}
        return False

    def renewed(self, stamp: int) -> None:
        """Answer a renewal; only the last answer is sent."""
        self._renewed = stamp

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._drain = grace

    def take(self) -> list[RouterMessage]:
        """Remove everything from the queue and return it as messages; call `sent` when they are sent."""
        self._sending = self._unsent_bytes
        messages: list[RouterMessage] = []
        if self._wanted is not None:
            messages.append(LifecycleFilter(self._wanted))
            self._wanted = None
        if self._settled:
            messages.append(Settlement(tuple(self._settled)))
            self._settled.clear()
        if self._durable:
            messages.append(CheckpointAck(tuple(self._durable.values())))
            self._durable.clear()
        if self._deliveries:
            messages += map(EventDeliveryBatch, self._parts(self._deliveries, delivery_size))
            self._deliveries.clear()
        if self._assignments:
            messages += map(AssignmentBatch, self._parts(self._assignments, assignment_size))
            self._assignments.clear()
        # after the assignments: they may contain one that was cancelled at once
        messages += [Revocation(tuple(leases), reason) for reason, leases in self._revoked.items()]
        self._revoked.clear()
        if self._renewed is not None:  # after the revocations: the renewal does not cover those leases
            messages.append(Renewed(self._renewed))
            self._renewed = None
        if self._drain is not None:
            messages.append(Drain(self._drain))
            self._drain = None
        return messages

    def _parts(self, items: Sequence[_Item], size_of: Callable[[_Item], int]) -> list[tuple[_Item, ...]]:
        return [tuple(items)] if self._sending <= MAX_BATCH_BYTES else split(items, size_of, MAX_BATCH_BYTES)

    def sent(self) -> None:
        """Record that what was taken is sent."""
        self._unsent_bytes -= self._sending
        self._sending = 0
