"""Offers events and ends to running executions, whose runners write the journal and confirm what they consume.

While an execution is running, its runner reports what the execution waits for meanwhile. A matching event is *offered*,
one at a time; the checkpoint that consumes it names it, and one write journals it and removes it from storage. The
event goes to other receivers if the runner sends new subscriptions first, or loses the execution. After a router crash,
an event may have gone to another receiver although a checkpoint that was not acknowledged consumes it: then the runner
loses the execution, uncharged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowhook.model import JournalEntry, Subscription, WorkflowError
from router.dispatch.runner_port import EventDelivery, LiveSubscriptions, ReportedCheckpoint
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventReceiver, Subscriptions


@dataclass(frozen=True, slots=True, eq=False)
class PendingDelivery:
    """An event or end offered to an execution.

    Attributes:
        seq: sequence number of the execution.
        key: key of the journal entry.
        number: number of the event; 0: the offer is an end.
        declined: called when the offer is not accepted.
    """

    seq: int
    key: str
    number: int
    declined: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Listener:
    """A running execution with subscriptions. While an offer is open the execution does not listen."""

    listening: LiveSubscriptions
    flow_id: str
    offer: PendingDelivery | None = None


class LiveDelivery:
    """Running executions with subscriptions, and the offers made to them.

    An execution is registered while its runner reports subscriptions for it and has not lost it.
    """

    def __init__(
        self,
        *,
        core: Shard,
        subscriptions: Subscriptions,
        send: Callable[[EventDelivery], None],
        look: Callable[[int, str, Sequence[Subscription]], None],
    ) -> None:
        """Offer to executions of `core`.

        Args:
            core: the scheduling core, which knows the leases that are good.
            subscriptions: the shard's subscriptions.
            send: sends an event or end to the runner, if that is attached.
            look: subscribes an execution of a flow, and delivers what matches already.
        """
        self._core = core
        self._subscriptions = subscriptions
        self._send = send
        self._look = look
        self._listeners: dict[int, _Listener] = {}
        self._taken: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Whether any running execution has subscriptions, or has accepted an offer."""
        return bool(self._listeners or self._taken)

    def listen(self, listening: LiveSubscriptions) -> bool:
        """Replace the subscriptions of a running execution; false: the lease is stale."""
        lease = self._core.leases.get(listening.token)
        if lease is None:
            return False
        self._forget(lease.seq)
        if listening.subscriptions:
            self._listeners[lease.seq] = _Listener(listening, lease.queue.flow_id)
            self._look(lease.seq, lease.queue.flow_id, listening.subscriptions)
        return True

    def leave(self, seq: int) -> None:
        """Unregister an execution that is not running any more."""
        self._taken.pop(seq, None)
        self._forget(seq)

    def _forget(self, seq: int) -> None:
        listener = self._listeners.pop(seq, None)
        if listener is not None:
            self._subscriptions.remove(seq)
            if listener.offer is not None:
                listener.offer.declined()

    def offer(self, receiver: EventReceiver, number: int, declined: Callable[[], None]) -> PendingDelivery | None:
        """Open an offer to an execution, which stops listening until it accepts or declines; None: it does not listen.

        Args:
            receiver: the execution, and the key of the journal entry.
            number: number of the event; 0: the offer is an end.
            declined: see `PendingDelivery`.
        """
        listener = self._listeners.get(receiver.seq)
        if listener is None or listener.offer is not None:
            return None
        self._subscriptions.remove(receiver.seq)
        listener.offer = PendingDelivery(receiver.seq, receiver.key, number, declined)
        return listener.offer

    def hand_over(self, offer: PendingDelivery, output: bytes | None, problem: WorkflowError | None = None) -> None:
        """Send the content of an offer to the runner, unless the offer was declined meanwhile."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            token, generation, _ = listener.listening
            self._send(EventDelivery(token, generation, offer.number, JournalEntry(offer.key, output, problem)))

    def withdraw(self, offer: PendingDelivery) -> None:
        """Close an offer whose event is gone; the execution listens again."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            listener.offer = None
            self._look(offer.seq, listener.flow_id, listener.listening.subscriptions)

    def take(self, checkpoints: Sequence[ReportedCheckpoint]) -> tuple[list[PendingDelivery], set[bytes]]:
        """Accept the offers that checkpoints under good leases consume, before the checkpoints are stored.

        Returns:
            The accepted offers, for `restore` if the checkpoints can't be stored; and the leases whose checkpoints
            consume something that was not offered.
        """
        taken: list[PendingDelivery] = []
        refused: set[bytes] = set()
        for each in checkpoints:
            seq = self._core.leases.seq_of(each.token) if each.arrival else None
            if seq is None:
                continue
            listener = self._listeners.get(seq)
            offer = None if listener is None else listener.offer
            if listener is not None and offer is not None and offer.number == each.arrival:
                listener.offer = None
                self._taken[seq] = each.position
                taken.append(offer)
            elif each.position > self._taken.get(seq, -1):  # else the checkpoint is a repetition
                refused.add(each.token)
        return taken, refused

    def restore(self, offers: Sequence[PendingDelivery]) -> None:
        """Reopen offers whose checkpoints could not be stored."""
        for offer in offers:
            listener = self._listeners.get(offer.seq)
            if listener is None or listener.offer is not None:
                offer.declined()
            else:
                listener.offer = offer
