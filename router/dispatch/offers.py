"""Handing what came to executions that are worked on: their runners write their journals, and say what they took.

While something of an execution is under way its runner says what it waits for besides. What comes is *offered*, one
thing at a time; the checkpoint that takes it in names it, and in one write it is journaled and kept no more. It goes to
others if the runner says something new before, or loses the execution. What a runner took in by a checkpoint of which a
router that died said nothing may have gone to somebody else since: then it loses the execution, uncharged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowhook.model import JournalEntry, Subscription, WorkflowError
from router.dispatch.link import Checkpoint, HandedOver, Listening
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Receiver, Subscriptions


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """Something for an execution, under the key of a journal entry; `declined` is called when it is not taken in."""

    seq: int
    key: str
    number: int
    declined: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Listener:
    """An execution that listens while it is worked on; what was offered, it does not listen meanwhile."""

    listening: Listening
    flow_id: str
    offer: Offer | None = None


class Offers:
    """See the module. An execution is here from when its runner says so until it does not, or has lost it."""

    def __init__(
        self,
        *,
        core: Shard,
        subscriptions: Subscriptions,
        send: Callable[[HandedOver], None],
        look: Callable[[int, str, Sequence[Subscription]], None],
    ) -> None:
        """Offer to executions of `core`.

        Args:
            core: tells which leases are good.
            subscriptions: what all wait for.
            send: hands something over, if the runner is attached.
            look: has an execution of a flow begin to wait, and get what came before.
        """
        self._core = core
        self._subscriptions = subscriptions
        self._send = send
        self._look = look
        self._listeners: dict[int, _Listener] = {}
        self._taken: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Whether any execution is here."""
        return bool(self._listeners or self._taken)

    def listen(self, listening: Listening) -> bool:
        """Take in what an execution waits for while it is worked on; false: the lease is stale."""
        lease = self._core.lease(listening.token)
        if lease is None:
            return False
        self._forget(lease.seq)
        if listening.subscriptions:
            self._listeners[lease.seq] = _Listener(listening, lease.queue.flow_id)
            self._look(lease.seq, lease.queue.flow_id, listening.subscriptions)
        return True

    def leave(self, seq: int) -> None:
        """Note that an execution is not worked on any more."""
        self._taken.pop(seq, None)
        self._forget(seq)

    def _forget(self, seq: int) -> None:
        listener = self._listeners.pop(seq, None)
        if listener is not None:
            self._subscriptions.remove(seq)
            if listener.offer is not None:
                listener.offer.declined()

    def offer(self, receiver: Receiver, number: int, declined: Callable[[], None]) -> Offer | None:
        """Have an execution listen to nothing else until it says whether it takes this in; None: it does not listen.

        Args:
            receiver: the execution.
            number: of the arrival; 0: it is none.
            declined: see `Offer`.
        """
        listener = self._listeners.get(receiver.seq)
        if listener is None or listener.offer is not None:
            return None
        self._subscriptions.remove(receiver.seq)
        listener.offer = Offer(receiver.seq, receiver.key, number, declined)
        return listener.offer

    def hand_over(self, offer: Offer, output: bytes | None, problem: WorkflowError | None = None) -> None:
        """Hand over what was offered, unless it was declined meanwhile."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            token, generation, _ = listener.listening
            self._send(HandedOver(token, generation, offer.number, JournalEntry(offer.key, output, problem)))

    def withdraw(self, offer: Offer) -> None:
        """Have an execution listen again: what was offered is not there any more."""
        listener = self._listeners.get(offer.seq)
        if listener is not None and listener.offer is offer:
            listener.offer = None
            self._look(offer.seq, listener.flow_id, listener.listening.subscriptions)

    def take(self, checkpoints: Sequence[Checkpoint]) -> tuple[list[Offer], set[bytes]]:
        """Note what checkpoints under good leases take in, before they are stored.

        Returns:
            What was offered, for `restore` if they are not stored; and the leases under which something is taken in
            that nobody offered.
        """
        taken: list[Offer] = []
        refused: set[bytes] = set()
        for each in checkpoints:
            seq = self._core.lease_of(each.token) if each.arrival else None
            if seq is None:
                continue
            listener = self._listeners.get(seq)
            offer = None if listener is None else listener.offer
            if listener is not None and offer is not None and offer.number == each.arrival:
                listener.offer = None
                self._taken[seq] = each.position
                taken.append(offer)
            elif each.position > self._taken.get(seq, -1):  # else it is said again
                refused.add(each.token)
        return taken, refused

    def restore(self, offers: Sequence[Offer]) -> None:
        """Have offers stand again whose checkpoints could not be stored."""
        for offer in offers:
            listener = self._listeners.get(offer.seq)
            if listener is None or listener.offer is not None:
                offer.declined()
            else:
                listener.offer = offer
