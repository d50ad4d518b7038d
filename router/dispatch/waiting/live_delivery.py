"""Offers events and ends to running executions, whose runners write the journal and confirm what they consume.

While an execution is running, its runner reports what the execution waits for meanwhile. A matching event is *offered*,
one at a time; the checkpoint that consumes it names it, and one write journals it and removes it from storage. The
event goes to other receivers if the runner sends new subscriptions first, or loses the execution. After a router crash,
an event may have gone to another receiver although a checkpoint that was not acknowledged consumes it: then the runner
loses the execution, uncharged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import attrs

from flowhook.attach.messages import Checkpoint, EventDelivery, SubscriptionUpdate
from flowhook.model import JournalEntry, Subscription, WorkflowError
from router.dispatch.attached_runners import AttachedRunners
from router.dispatch.effects import EffectQueue, Redeliver
from router.scheduling.event_buffer import ArrivedEvent
from router.scheduling.leases import Lease
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventReceiver, Subscriptions


@dataclass(frozen=True, slots=True, eq=False)
class PendingDelivery:
    """An event or end offered to an execution.

    Attributes:
        seq: sequence number of the execution.
        key: key of the journal entry.
        event: the event, delivered again if the offer is declined; None: the offer is an end, which needs no retry, as
            the execution finds it in storage when it waits again.
    """

    seq: int
    key: str
    event: ArrivedEvent | None

    @property
    def number(self) -> int:
        """Number of the event; 0: the offer is an end."""
        return 0 if self.event is None else self.event.number


@dataclass(slots=True, eq=False)
class _Listener:
    """A running execution with subscriptions. While an offer is open the execution does not listen."""

    listening: SubscriptionUpdate
    flow_id: str
    offer: PendingDelivery | None = None


@attrs.define(eq=False, repr=False, kw_only=True)
class LiveDelivery:
    """Running executions with subscriptions, and the offers made to them.

    An execution is registered while its runner reports subscriptions for it and has not lost it.
    """

    _core: Shard
    _subscriptions: Subscriptions
    _runners: AttachedRunners
    _effects: EffectQueue
    _listeners: dict[int, _Listener] = attrs.field(init=False, factory=dict)
    _taken: dict[int, int] = attrs.field(init=False, factory=dict)

    def __bool__(self) -> bool:
        """Whether any running execution has subscriptions, or has accepted an offer."""
        return bool(self._listeners or self._taken)

    def listen(self, listening: SubscriptionUpdate) -> Lease | None:
        """Replace the subscriptions of a running execution; the caller subscribes it to the new ones.

        Returns:
            The lease; None when it is stale.
        """
        lease = self._core.leases.get(listening.lease)
        if lease is not None:
            self._forget(lease.seq)
            if listening.subscriptions:
                self._listeners[lease.seq] = _Listener(listening, lease.queue.flow_id)
        return lease

    def leave(self, seq: int) -> None:
        """Unregister an execution that is not running any more."""
        self._taken.pop(seq, None)
        self._forget(seq)

    def _forget(self, seq: int) -> None:
        listener = self._listeners.pop(seq, None)
        if listener is not None:
            self._subscriptions.remove(seq)
            if listener.offer is not None:
                self._decline(listener.offer)

    def _decline(self, offer: PendingDelivery) -> None:
        if offer.event is not None:
            self._effects.add(Redeliver(offer.event))

    def offer(self, receiver: EventReceiver, event: ArrivedEvent | None) -> PendingDelivery | None:
        """Open an offer to an execution, which stops listening until it accepts or declines; None: it does not listen.

        Args:
            receiver: the execution, and the key of the journal entry.
            event: the event; None: the offer is an end.
        """
        listener = self._listeners.get(receiver.seq)
        if listener is None or listener.offer is not None:
            return None
        self._subscriptions.remove(receiver.seq)
        listener.offer = PendingDelivery(
            receiver.seq, receiver.key, None if event is None else event._replace(event=None)
        )
        return listener.offer

    def hand_over(self, offer: PendingDelivery, output: bytes | None, problem: WorkflowError | None = None) -> None:
        """Send the content of an offer to the runner, unless the offer was declined meanwhile."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            token, generation, _ = listener.listening
            self._runners.deliver(
                EventDelivery(token, generation, offer.number, JournalEntry(offer.key, output, problem))
            )

    def withdraw(self, seq: int, number: int) -> tuple[str, Sequence[Subscription]] | None:
        """Close the offer of an event that is gone; the execution listens again.

        Returns:
            The flow and the subscriptions of the execution, for the caller to subscribe it to; None when the offer was
            declined meanwhile.
        """
        listener = self._listeners.get(seq)
        if listener is None or listener.offer is None or listener.offer.number != number:
            return None
        listener.offer = None
        return listener.flow_id, listener.listening.subscriptions

    def take(self, checkpoints: Sequence[Checkpoint]) -> tuple[list[PendingDelivery], set[bytes]]:
        """Accept the offers that checkpoints under good leases consume, before the checkpoints are stored.

        Returns:
            The accepted offers, for `restore` if the checkpoints can't be stored; and the leases whose checkpoints
            consume something that was not offered.
        """
        taken: list[PendingDelivery] = []
        refused: set[bytes] = set()
        for each in checkpoints:
            seq = self._core.leases.seq_of(each.lease) if each.arrival else None
            if seq is None:
                continue
            listener = self._listeners.get(seq)
            offer = None if listener is None else listener.offer
            if listener is not None and offer is not None and offer.number == each.arrival:
                listener.offer = None
                self._taken[seq] = each.index
                taken.append(offer)
            elif each.index > self._taken.get(seq, -1):  # else the checkpoint is a repetition
                refused.add(each.lease)
        return taken, refused

    def restore(self, offers: Sequence[PendingDelivery]) -> None:
        """Reopen offers whose checkpoints could not be stored."""
        for offer in offers:
            listener = self._listeners.get(offer.seq)
            if listener is None or listener.offer is not None:
                self._decline(offer)
            else:
                listener.offer = offer
