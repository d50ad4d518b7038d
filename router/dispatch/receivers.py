"""Ways to pass an event or an end to an execution that waits for it, parked or running.

While an execution is parked no runner writes its journal, so the router may: it unparks the execution, and appends the
event or end. Each receives one entry at a time: its next subscription depends on that entry, and an entry that the flow
does not ask for is a defect. Further events are matched when the execution waits again.

While an execution is running, its runner writes the journal, and reports what the execution waits for meanwhile. A
matching event is *offered*, one at a time; the checkpoint that consumes it names it, and one write journals it and
removes it from storage. The event goes to other receivers if the runner sends new subscriptions first, or loses the
execution. After a router crash, an event may have gone to another receiver although a checkpoint that was not
acknowledged consumes it: then the runner loses the execution, uncharged.

The outcome of an execution is appended to the journal of a parked one in the same write that stores the end.
`event_delivery` delivers ends that were stored before an execution began to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import attrs

from flowhook import limits
from flowhook.attach.messages import Checkpoint, EventDelivery, SubscriptionUpdate
from flowhook.model import ERROR_TYPE_BASE, JournalEntry, Status, Subscription, WorkflowError
from router.dispatch.effects import Redeliver
from router.dispatch.parts import ShardParts
from router.scheduling.leases import Lease
from router.scheduling.matching import InboundEvent
from router.scheduling.subscriptions import EventReceiver
from router.storage.model import Consumed, Delivered, Ended, JournalSize


def runtime_error(detail: str) -> WorkflowError:
    """Return an error that the flow did not cause."""
    return WorkflowError(type=f"{ERROR_TYPE_BASE}runtime", status=500, title="Runtime error", detail=detail)


def attempts_exhausted(attempts: int) -> WorkflowError:
    return runtime_error(f"given up after {attempts} attempts, each of which ended with its runner or lost its lease")


_EMPTY: Final = JournalSize(0, 0)


class Unparked(NamedTuple):
    """An unparked execution, the key of the journal entry to append, and the attempts charged to it so far."""

    seq: int
    key: str
    attempts: int


class Deliverable(NamedTuple):
    """The unparked executions that can take an entry, and the ends of those whose journal is full."""

    unparked: list[Unparked]
    ends: list[Ended]


@attrs.define(eq=False, repr=False)
class ParkedDelivery:
    """Unparks executions and checks that their journals have room."""

    _parts: ShardParts

    def unpark(self, receivers: Sequence[EventReceiver]) -> list[Unparked]:
        """Unpark the receivers that are parked and return them; their state in the core is *returning* from here on."""
        keys = dict(receivers)
        unparked = [Unparked(seq, keys[seq], attempts) for seq, attempts in self._parts.shard.deliver(keys)]
        for each in unparked:
            self._parts.outages.leave(each.seq)
            self._parts.subscriptions.remove(each.seq)
        return unparked

    async def check_room(self, unparked: Sequence[Unparked]) -> Deliverable:
        """Select the executions that can take an entry: not cancelled meanwhile, and with room in their journals."""
        sizes = await self._parts.writer.call_with_retry(
            lambda: self._parts.state.journal_sizes([each.seq for each in unparked])
        )
        fitting = Deliverable([], [])
        for each in unparked:
            entries, size = sizes.get(each.seq, _EMPTY)
            if entries < limits.MAX_JOURNAL_ENTRIES and size < limits.MAX_JOURNAL_BYTES:
                if each.seq in self._parts.shard.pending.returning:
                    fitting.unparked.append(each)
            elif self._parts.shard.pending.end_returning(each.seq):
                fitting.ends.append(self._full(each))
        return fitting

    def _full(self, unparked: Unparked) -> Ended:
        error = runtime_error(
            f"what it waits for has arrived, but its journal is full: at most {limits.MAX_JOURNAL_ENTRIES} entries,"
            f" whose results have at most {limits.MAX_JOURNAL_BYTES} bytes in all, between two compactions"
        )
        return Ended(unparked.seq, Status.FAULTED, self._parts.now_ms(), unparked.attempts, error=error)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """An event or end offered to an execution."""

    seq: int  # sequence number of the execution
    key: str  # key of the journal entry
    # the event, delivered again if the offer is declined; None: the offer is an end, which needs no retry, as the
    # execution finds it in storage when it waits again
    event: InboundEvent | None

    @property
    def number(self) -> int:
        """Number of the event; 0: the offer is an end."""
        return 0 if self.event is None else self.event.number


@dataclass(slots=True, eq=False)
class _Listener:
    """A running execution with subscriptions. While an offer is open the execution does not listen."""

    update: SubscriptionUpdate
    flow_id: str
    offer: Offer | None = None


@attrs.define(eq=False, repr=False)
class LiveDelivery:
    """Running executions with subscriptions, and the offers made to them.

    An execution is registered while its runner reports subscriptions for it and has not lost it.
    """

    _parts: ShardParts
    _listeners: dict[int, _Listener] = attrs.field(init=False, factory=dict)
    _accepted: dict[int, int] = attrs.field(init=False, factory=dict)

    def __bool__(self) -> bool:
        return bool(self._listeners or self._accepted)

    def listen(self, update: SubscriptionUpdate) -> Lease | None:
        """Replace the subscriptions of a running execution, and return its lease, or None when it is stale.

        The caller subscribes the execution to the new ones.
        """
        lease = self._parts.shard.leases.get(update.lease)
        if lease is not None:
            self._forget(lease.seq)
            if update.subscriptions:
                self._listeners[lease.seq] = _Listener(update, lease.queue.flow_id)
        return lease

    def leave(self, seq: int) -> None:
        self._accepted.pop(seq, None)
        self._forget(seq)

    def _forget(self, seq: int) -> None:
        listener = self._listeners.pop(seq, None)
        if listener is not None:
            self._parts.subscriptions.remove(seq)
            if listener.offer is not None:
                self._decline(listener.offer)

    def _decline(self, offer: Offer) -> None:
        if offer.event is not None:
            self._parts.effects.add(Redeliver(offer.event))

    def offer(self, receiver: EventReceiver, event: InboundEvent | None) -> Offer | None:
        """Open an offer of an event, or (None) of an end, to an execution; None: it does not listen.

        It stops listening until it accepts or declines.
        """
        listener = self._listeners.get(receiver.seq)
        if listener is None or listener.offer is not None:
            return None
        # while the offer is open it listens to nothing: what it waits for next depends on this event
        self._parts.subscriptions.remove(receiver.seq)
        listener.offer = Offer(receiver.seq, receiver.key, None if event is None else event._replace(content=None))
        return listener.offer

    def hand_over(self, offer: Offer, output: bytes | None, problem: WorkflowError | None = None) -> None:
        """Send the content of an offer to the runner, unless the offer was declined meanwhile."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            token, generation, _ = listener.update
            self._parts.runners.deliver(
                EventDelivery(token, generation, offer.number, JournalEntry(offer.key, output, problem))
            )

    def withdraw(self, seq: int, number: int) -> tuple[str, Sequence[Subscription]] | None:
        """Close the offer of an event that is gone, unless the offer was declined; the execution listens again.

        Returns its flow and its subscriptions, for the caller to subscribe it to.
        """
        listener = self._listeners.get(seq)
        if listener is None or listener.offer is None or listener.offer.number != number:
            return None
        listener.offer = None
        return listener.flow_id, listener.update.subscriptions

    def accept(self, checkpoints: Sequence[Checkpoint]) -> tuple[list[Offer], set[bytes]]:
        """Accept the offers that checkpoints under good leases consume, before the checkpoints are stored.

        Returns the accepted offers, for `restore` if the checkpoints can't be stored; and the leases whose checkpoints
        consume something that was not offered.
        """
        accepted: list[Offer] = []
        refused: set[bytes] = set()
        for each in checkpoints:
            seq = self._parts.shard.leases.seq_of(each.lease) if each.consumed else None
            if seq is None:
                continue
            listener = self._listeners.get(seq)
            offer = None if listener is None else listener.offer
            if listener is not None and offer is not None and offer.number == each.consumed:
                listener.offer = None
                self._accepted[seq] = each.index
                accepted.append(offer)
            # An offer of event 41 at the position 3 of the journal, and what runners may send:
            #     index 3, consumed 41   accepted
            #     index 3, consumed 41   again, after a reconnection: a repetition, which storage ignores
            #     index 4, consumed 41   never offered for that entry: refused
            elif each.index > self._accepted.get(seq, -1):  # else the checkpoint is a repetition
                refused.add(each.lease)
        return accepted, refused

    def restore(self, offers: Sequence[Offer]) -> None:
        for offer in offers:
            listener = self._listeners.get(offer.seq)
            # meanwhile it stopped listening, or listened anew and got another offer: this event is for others
            if listener is None or listener.offer is not None:
                self._decline(offer)
            else:
                listener.offer = offer


class ChildResult(NamedTuple):
    """Outcome of an execution, for one that waits for its end; exactly one of the two is set."""

    output: bytes | None
    error: WorkflowError | None

    @classmethod
    def of(cls, status: Status, output: bytes | None, error: WorkflowError | None) -> ChildResult:
        if status is Status.COMPLETED:
            return cls(b"null" if output is None else output, None)
        return cls(None, error or runtime_error("the execution that it waits for was cancelled"))

    def delivered(self, unparked: Unparked) -> Delivered:
        return Delivered(unparked.seq, JournalEntry(unparked.key, *self), unparked.attempts)


@attrs.define(eq=False, repr=False)
class ChildCompletions:
    """Delivers ends that are being stored."""

    _parts: ShardParts
    _parked: ParkedDelivery
    _live: LiveDelivery

    @property
    def is_needed(self) -> bool:
        return bool(self._parts.subscriptions.awaited or self._parts.buffer.addressed)

    async def side_effects(self, ends: list[Ended]) -> tuple[list[Delivered], list[Consumed]]:
        """Unpark executions that wait for those that are ending, and drop events buffered for the latter.

        Returns the changes to store together with `ends`, to which those are added of waiting executions that fault
        because their journal is full.
        """
        delivered: list[Delivered] = []
        consumed: list[Consumed] = []
        for end in ends:  # the list grows during the loop
            consumed += map(Consumed, self._parts.buffer.ended(end.seq))
            unparked = self._parked.unpark(self._parts.subscriptions.end_receivers(end.seq))
            if unparked:
                fitting = await self._parked.check_room(unparked)
                outcome = ChildResult.of(end.status, end.output, end.error)
                delivered += map(outcome.delivered, fitting.unparked)
                ends += fitting.ends
        return delivered, consumed

    def publish(self, ends: Sequence[Ended]) -> None:
        """Offer ends that are now durable to the executions that wait for them while they run."""
        for end in ends:
            for receiver in self._parts.subscriptions.end_receivers(end.seq):
                self.offer(receiver, ChildResult.of(end.status, end.output, end.error))

    def offer(self, receiver: EventReceiver, result: ChildResult) -> None:
        offer = self._live.offer(receiver, None)
        if offer is not None:
            self._live.hand_over(offer, *result)
