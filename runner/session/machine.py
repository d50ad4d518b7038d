"""The state machine of a runner towards its router; see the package for the protocol."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import starmap
from math import inf
from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Reply, Subscription
from runner.session.messages import (
    Abandon,
    Arrival,
    Arrivals,
    Assigned,
    Assignment,
    Attached,
    Checkpoint,
    Checkpointed,
    Checkpoints,
    Credit,
    Effect,
    Ending,
    Extended,
    Forget,
    Hello,
    Incoming,
    Interest,
    Listening,
    Listenings,
    Outcome,
    Outcomes,
    Outgoing,
    Proceed,
    Reattach,
    Released,
    Renewal,
    Renewed,
    Revoked,
    RouterDrains,
    Settled,
    Start,
    TakeIn,
    Tell,
    Welcome,
)
from runner.session.sizes import checkpoint_size, events_size, listening_size, outcome_size, parts

MAX_CREDIT: Final = 1024
"""Assignments that one Credit message may permit."""

MAX_OUTSTANDING: Final = 256
"""Assignments that may be permitted and not yet here: plenty for one round trip, little memory if all are large."""

MAX_HELD_BYTES: Final = 256 * limits.MIB
"""Events in hand beyond which no more work is asked for."""

MAX_UNTOLD_BYTES: Final = 8 * limits.MIB
"""What one execution has to tell apart from its journal, and is not known to be durable; more is not told."""

UNSETTLED_FACTOR: Final = 4
RENEWALS_PER_LEASE: Final = 3


class _Phase(Enum):
    DETACHED = "detached"
    GREETING = "greeting"
    ATTACHED = "attached"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Held:
    """A lease in hand.

    Attributes:
        waits_for: what the router was told last that it waits for while it is worked on; None: some of that has come.
        generation: how often it was told.
        checkpoints: those that are not known to be durable, in order, by index, whether they have an entry, and number.
        tells: how many had no entry so far.
        untold: bytes of events in those of them that are not known to be durable.
    """

    size: int
    waits_for: tuple[Subscription, ...] | None = ()
    generation: int = 0
    checkpoints: OrderedDict[tuple[int, bool, int], Checkpoint] = field(default_factory=OrderedDict)
    tells: int = 0
    untold: int = 0
    outcome: Outcome | None = None


class Session:
    """State of one runner towards its router, across streams."""

    def __init__(
        self, *, runner_id: str, components: Sequence[str], build: str, capacity: int, losses_explained: bool
    ) -> None:
        """Start with nothing in hand.

        Args:
            runner_id: see `Hello`.
            components: names of the functions that can be called.
            build: version of the software.
            capacity: executions worked on at a time, in [1, 4096].
            losses_explained: whether the fate of what an earlier child held is known; see `Hello`.
        """
        self._identity = (runner_id, tuple(sorted(components)), build)
        self._capacity = capacity
        self._window = capacity
        self._explained = losses_explained
        self._phase = _Phase.DETACHED
        self._held: dict[bytes, _Held] = {}
        self._running = 0
        self._bytes = 0
        self._permitted = 0
        self._lease_seconds = limits.LEASE_SECONDS
        self._good_until = self._certain_until = -inf
        self._answers_renewals = False
        self._greeted_at = 0.0
        self._accepting = True
        self._hello = False
        self._bundles = False
        self._renewal: float | None = None
        self._checkpoints: list[Checkpoint] = []
        self._listening: dict[bytes, Listening] = {}
        self._outcomes: list[Outcome] = []
        self._wanted: frozenset[str] = frozenset()

    @property
    def running(self) -> int:
        """How many executions are worked on."""
        return self._running

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand: no work, and no outcome that the router has not settled."""
        return not self._held

    @property
    def attached(self) -> bool:
        """Whether the router accepted this runner on the present stream."""
        return self._phase in (_Phase.ATTACHED, _Phase.LEAVING)

    @property
    def takes_bundles(self) -> bool:
        """Whether the router takes several messages as one on the present stream."""
        return self.attached and self._bundles

    def limit(self, window: int) -> bool:
        """Ask for no more work while `window` executions, or `capacity`, or more are worked on.

        Returns:
            Whether that makes room, so that there is something to say.
        """
        self._window = min(window, self._capacity)
        return self._credit() > 0

    def connected(self, now: float) -> None:
        """Begin a new stream: say hello."""
        self._phase = _Phase.GREETING
        self._greeted_at = now
        self._hello = True
        self._renewal = None
        self._permitted = 0
        self._checkpoints.clear()
        self._listening.clear()
        self._outcomes.clear()

    def disconnected(self) -> None:
        """Note that the stream ended. What is in hand is kept; see `expire`.

        How long the router waits for the next stream is its business, so nothing is certain until then.
        """
        self._phase = _Phase.DETACHED
        self._certain_until = -inf
        self._permitted = 0

    def receive(self, message: Incoming, now: float) -> list[Effect]:
        """Take in what the router says and return what is to be done, in order.

        Args:
            message: the router's.
            now: seconds on any monotonic clock, the same one in all calls.

        Raises:
            InvalidError: the router breaks the protocol (`ATTACH_PROTOCOL_VIOLATION`); end the stream.
        """
        self._check_turn(message)
        match message:
            case Welcome():
                return self._welcome(message)
            case Assigned():
                return _effects(map(self._assign, message.assignments))
            case Checkpointed():
                return _effects(starmap(self._durable, message.durable))
            case Arrivals():
                return _effects(map(self._arrive, message.arrivals))
            case Settled():
                return [Forget(lease) for lease in message.leases if self._drop(lease)]
            case Revoked():
                return [Abandon(lease, message.reason) for lease in message.leases if self._drop(lease)]
            case Renewed():
                return self._extend(min(message.moment, now))
            case RouterDrains():
                self._phase = _Phase.LEAVING
                return [Reattach(message.grace)]
            case Interest():
                self._wanted = message.types
                return [Tell(message.types)]

    def _check_turn(self, message: Incoming) -> None:
        if isinstance(message, Welcome) != (self._phase is _Phase.GREETING):
            raise InvalidError(
                f"{type(message).__name__} while {self._phase.value}", reason="ATTACH_PROTOCOL_VIOLATION"
            )

    def checkpoint(
        self,
        lease: bytes,
        index: int,
        entry: JournalEntry,
        *,
        compacts: bool = False,
        reply: Reply | None = None,
        arrival: int = 0,
        events: tuple[LifecycleEvent, ...] = (),
        history: bytes = b"",
    ) -> None:
        """Have a journal entry made durable, and then a reply passed on; nothing happens for a lease that is lost.

        With it `events` are told, which happened before, and the `history` of tasks.
        """
        held = self._held.get(lease)
        if held is not None:
            self._check_in(held, Checkpoint(lease, index, entry, compacts, reply, arrival, events, history=history))

    def tell(self, lease: bytes, index: int, events: tuple[LifecycleEvent, ...]) -> bool:
        """Tell what happened before the journal entry that is to come as `index`; false: it is too much, and left out.

        Nothing happens for a lease that is lost.
        """
        held = self._held.get(lease)
        if held is None:
            return True
        size = events_size(events)
        if held.untold + size > MAX_UNTOLD_BYTES:
            return False
        held.untold += size
        held.tells += 1
        self._check_in(held, Checkpoint(lease, index, None, events=events, number=held.tells))
        return True

    def _check_in(self, held: _Held, checkpoint: Checkpoint) -> None:
        held.checkpoints[checkpoint.index, checkpoint.entry is not None, checkpoint.number] = checkpoint
        if self.attached:
            self._checkpoints.append(checkpoint)

    def listen(self, lease: bytes, subscriptions: tuple[Subscription, ...]) -> bool:
        """Say what an execution waits for while it is worked on; whether that is news, and the lease not lost."""
        held = self._held.get(lease)
        if held is None or held.waits_for == subscriptions:
            return False
        held.waits_for = subscriptions
        self._say(lease, held)
        return True

    def finish(
        self, lease: bytes, ending: Ending, events: tuple[LifecycleEvent, ...] = (), history: bytes = b""
    ) -> None:
        """Report how an attempt ended, and what happened before; nothing happens for a lease that is lost."""
        held = self._held.get(lease)
        if held is None or held.outcome is not None:
            return
        held.outcome = Outcome(lease, ending, events, history)
        held.waits_for = ()
        self._listening.pop(lease, None)
        self._running -= 1
        if self.attached:
            self._outcomes.append(held.outcome)

    def drain(self) -> None:
        """Ask for no more work; what is permitted already may still come."""
        self._accepting = False

    def renew(self, now: float) -> None:
        """Renew all leases with the next write; without any, it is the sign of life that the next ones rest on."""
        if self.attached:
            self._renewal = now

    def is_certain(self, now: float) -> bool:
        """Whether leases that were not revoked are good for certain, so that an effect may begin.

        They may be good all the same. `Extended` follows as soon as that is known.
        """
        return now < self._certain_until

    def expire(self, now: float) -> list[Effect]:
        """Abandon everything when the router has been away for longer than a lease; give back what still is ours then.

        This process lives, so it can't say what kept it away: any of what it abandons may have.
        """
        if self.attached or now < self._good_until:
            return []
        abandoned = [lease for lease, held in self._held.items() if held.outcome is None]
        for lease in abandoned:
            self.finish(lease, Released("ROUTER_AWAY", charged=False))
        self._explained = self._explained and not abandoned
        return [Abandon(lease, "ROUTER_AWAY") for lease in abandoned]

    def take(self) -> list[Outgoing]:
        """Return everything there is to say now, in the order in which it has to be said."""
        if self._hello:
            self._hello = False
            return [Hello(*self._identity, held_leases=tuple(self._held), losses_explained=self._explained)]
        if not self.attached:
            return []
        messages: list[Outgoing] = []
        if self._checkpoints:
            messages += [Checkpoints(part) for part in parts(self._checkpoints, checkpoint_size)]
            self._checkpoints.clear()
        if self._listening:
            listening = [*self._listening.values()]
            messages += [Listenings(part) for part in parts(listening, listening_size)]
            self._listening.clear()
        if self._outcomes:
            messages += [Outcomes(part) for part in parts(self._outcomes, outcome_size)]
            self._outcomes.clear()
        if self._renewal is not None:
            messages.append(Renewal(self._renewal))
            if not self._answers_renewals:
                self._extend(self._renewal)
            self._renewal = None
        credit = self._credit()
        if credit:
            self._permitted += credit
            messages.append(Credit(credit))
        return messages

    def _welcome(self, message: Welcome) -> list[Effect]:
        self._phase = _Phase.ATTACHED
        self._bundles = message.takes_bundles
        self._lease_seconds = message.lease_seconds
        self._answers_renewals = message.answers_renewals
        self._explained = True
        effects: list[Effect] = [Attached(message.lease_seconds / RENEWALS_PER_LEASE)]
        if self._wanted:
            self._wanted = frozenset()
            effects.append(Tell(self._wanted))
        for lease, held in list(self._held.items()):
            if lease not in message.kept:
                self._drop(lease)
                effects.append(Abandon(lease, "LEASE_LOST"))
                continue
            self._checkpoints.extend(held.checkpoints.values())
            if held.generation and held.outcome is None:
                self._say(lease, held)
            if held.outcome is not None:
                self._outcomes.append(held.outcome)
        return effects + self._extend(self._greeted_at)

    def _extend(self, proven_at: float) -> list[Effect]:
        """Take in that all leases that were not revoked were good at a moment."""
        self._good_until = max(self._good_until, proven_at + self._lease_seconds)
        # a router of an older version that answers nothing proves nothing either
        self._certain_until = self._good_until if self._answers_renewals else inf
        return [Extended()]

    def _assign(self, assignment: Assignment) -> Effect | None:
        self._permitted = max(0, self._permitted - 1)
        if assignment.lease in self._held:
            return None
        size = len(assignment.event) + sum(len(entry.output or b"") for entry in assignment.journal)
        self._held[assignment.lease] = _Held(size)
        self._running += 1
        self._bytes += size
        return Start(assignment)

    def _durable(self, lease: bytes, index: int, number: int) -> Effect | None:
        held = self._held.get(lease)
        if held is None:
            return None
        for known in [known for known in held.checkpoints if known[0] <= index or 0 < known[2] <= number]:
            checkpoint = held.checkpoints.pop(known)
            if checkpoint.entry is None:
                held.untold -= events_size(checkpoint.events)
        return Proceed(lease, index)

    def _say(self, lease: bytes, held: _Held) -> None:
        held.generation += 1
        if self.attached:
            self._listening[lease] = Listening(lease, held.generation, held.waits_for or ())

    def _arrive(self, arrival: Arrival) -> Effect | None:
        held = self._held.get(arrival.lease)
        if held is None or not held.waits_for or arrival.generation != held.generation:
            return None
        held.waits_for = None  # what it waits for after this one is said anew, be it the same
        return TakeIn(arrival.lease, arrival.number, arrival.entry)

    def _drop(self, lease: bytes) -> bool:
        held = self._held.pop(lease, None)
        if held is None:
            return False
        self._listening.pop(lease, None)
        self._bytes -= held.size
        if held.outcome is None:
            self._running -= 1
        return True

    def _credit(self) -> int:
        if not self._accepting or self._phase is not _Phase.ATTACHED or self._bytes > MAX_HELD_BYTES:
            return 0
        room = min(
            self._window - self._running,
            UNSETTLED_FACTOR * self._window - len(self._held),
            MAX_OUTSTANDING,
        )
        return max(0, min(room - self._permitted, MAX_CREDIT))


def _effects(found: Iterable[Effect | None]) -> list[Effect]:
    return [effect for effect in found if effect is not None]
