"""The runner's half of the Attach protocol, without I/O: messages from the router in, effects out.

`PHASES` has the phases of a stream; docs/architecture.md shows them. While it is greeting, only `Welcome` may come.

**Leases** outlive streams. A lease is *held* from its assignment until its outcome is settled or the lease is revoked
or lost. While it is held, unacknowledged checkpoints and the unsettled outcome are retained and sent again on a new
stream, checkpoints first. The router handles both idempotently.

**Subscriptions** of a running execution are sent again on each stream and whenever they change. Each set has a
*generation* number. Only a delivery for the latest generation is accepted, and at most one. The router thus knows
whether each event was consumed: the checkpoint that consumes it is sent before the next generation.

**Certainty.** Only the router knows whether leases are still valid. Its answer to a renewal proves it, as of the time
the renewal was made, not as of the time the answer was read: this process may have been stopped in between, and data in
the socket is old. If that time is longer ago than a lease, or the stream has ended since, no effect starts before there
is a newer answer.

**Expiry.** A runner that could not reach the router for the length of a lease abandons its executions and releases
their leases. If the router was down all that time, it accepts the releases, and no attempt is charged. If it was not,
it has assigned the executions to other runners.

**Lifecycle events** of executions that flows subscribed to are sent with the checkpoints, or in checkpoints without an
entry, in order. So they are durable before whatever follows them. The event filter is sent again on each stream.

**Batching.** Nothing is sent at once: `take` returns all messages since the last call, so that whatever happens during
a write goes into the next one.

**Credit** is additive and lost with the stream. Bounds: `capacity` running executions; four times as many leases,
including those with an unsettled outcome; `MAX_HELD_BYTES` of events.

**The router's clock.** One clock decides when waits, timeouts and retries are over: that of the router that owns the
shard. A runner never compares it with its own, which may be wrong by any amount. It keeps the difference between the
router's time and a monotonic clock of its own, within what messages prove:

- A message that the router sent at T and that is read at M: the router's clock shows at least T at M. So an execution
  that the router woke at its time is past that time here too.
- The answer to a request that was made at A: the router's clock showed at most T at A. This bound takes the difference
  down again after the router's clock was set back.

Example: a renewal is made at 10.0 s of the monotonic clock, its answer says 500.0 s and is read at 10.4 s. The
difference is at least 489.6 s and at most 490.0 s; an earlier value in between stays, any other becomes the nearer end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from flowhook import limits
from flowhook.attach import messages
from flowhook.attach.limits import (
    MAX_CALL_REPORTS,
    MAX_CREDIT,
    checkpoint_size,
    events_size,
    outcome_size,
    protocol_violation,
    split,
    update_size,
)
from flowhook.events.lifecycle import LifecycleEvent
from flowhook.model import Subscription

MILLISECONDS: Final = 1000
# maximum outstanding credit: enough for one round trip, and little memory if all assignments are large
MAX_OUTSTANDING: Final = 256
MAX_HELD_BYTES: Final = 256 * limits.MIB  # total size of held events above which no more work is requested
# maximum size of an execution's lifecycle events sent without an entry and not yet durable; more are dropped
MAX_PENDING_EVENT_BYTES: Final = 8 * limits.MIB
UNSETTLED_FACTOR: Final = 4
RENEWALS_PER_LEASE: Final = 3
MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class AttachAccepted:
    """The stream is ready; renew leases every `renew_seconds`."""

    renew_seconds: float


@dataclass(frozen=True, slots=True)
class LeasesConfirmed:
    """Leases are confirmed for longer: effects that were held because a lease might be lost may start."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop working on a lease and discard the result."""

    lease: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Reattach:
    """Open a new stream once the router closed this one, or after `grace` seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class UpdateDestinations:
    """Take in what the router knows of destinations; `renewed`: forget what was known before."""

    updates: tuple[messages.DestinationUpdate, ...]
    renewed: bool = False


# what only has to be passed on is the router's message: attempts to start, journals that are durable, so that the next
# effect may start, events to deliver, and the types of lifecycle events to report
Effect = (
    AttachAccepted
    | messages.AssignmentBatch
    | messages.DurableCheckpoint
    | LeasesConfirmed
    | messages.EventDelivery
    | Abandon
    | Reattach
    | messages.LifecycleFilter
    | UpdateDestinations
)


class RouterClock:
    """Tells the router's time: what it said last, and the time that has passed since."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, fallback: Callable[[], float] = time.time
    ) -> None:
        """Start without a message; until there is one, the `fallback` (Unix time in seconds) is told.

        `monotonic` returns seconds; it is the clock of all times `now` and `asked`.
        """
        self._monotonic = monotonic
        self._ahead_ms = (fallback() - monotonic()) * MILLISECONDS

    def now_ms(self) -> int:
        return int(self._monotonic() * MILLISECONDS + self._ahead_ms)

    def attached(self, sent_ms: int, now: float) -> None:
        """Process the first message of a stream, maybe of another router than before, read at `now`."""
        self._ahead_ms = _difference(sent_ms, now)

    def read(self, sent_ms: int, now: float) -> None:
        """Process a message of the router, read at `now`."""
        self._ahead_ms = max(self._ahead_ms, _difference(sent_ms, now))

    def answered(self, sent_ms: int, asked: float) -> None:
        """Process the answer to a request that was made at `asked`, after `read`."""
        # the router's time is cut to milliseconds: it may have been one later
        self._ahead_ms = min(self._ahead_ms, _difference(sent_ms + 1, asked))


def _difference(router_ms: int, monotonic: float) -> float:
    return router_ms - monotonic * MILLISECONDS


class _Phase(Enum):
    DETACHED = "detached"
    GREETING = "greeting"
    ATTACHED = "attached"
    LEAVING = "leaving"


# the next phase of a stream, by phase and message, or by the method that the owner calls
PHASES: Final = {
    (_Phase.DETACHED, "connected()"): _Phase.GREETING,
    (_Phase.GREETING, "Welcome"): _Phase.ATTACHED,
    (_Phase.ATTACHED, "Drain"): _Phase.LEAVING,
    # a second drain has another grace period
    (_Phase.LEAVING, "Drain"): _Phase.LEAVING,
    (_Phase.GREETING, "disconnected()"): _Phase.DETACHED,
    (_Phase.ATTACHED, "disconnected()"): _Phase.DETACHED,
    (_Phase.LEAVING, "disconnected()"): _Phase.DETACHED,
    # the connection could not be made
    (_Phase.DETACHED, "disconnected()"): _Phase.DETACHED,
}


@dataclass(slots=True)
class _Held:
    size: int  # bytes of the event and of journaled outputs
    waits_for: tuple[Subscription, ...] | None = ()  # subscriptions sent last; None: one of them has matched
    generation: int = 0  # number of sets of subscriptions sent so far
    # not known to be durable, in order, by index, whether they have an entry, and number
    checkpoints: dict[tuple[int, bool, int], messages.Checkpoint] = field(default_factory=dict)
    without_entry: int = 0  # number of checkpoints without an entry so far
    # bytes of lifecycle events in checkpoints without an entry that are not known to be durable
    pending_event_bytes: int = 0
    outcome: messages.Outcome | None = None  # how the attempt ended; None: it is running


class Session:
    """State of one runner's attachment to its router, across streams."""

    def __init__(
        self, *, runner_id: str, components: Sequence[str], build: str, capacity: int, losses_explained: bool
    ) -> None:
        """Start without leases; `capacity` is the maximum number of running executions, in [1, 4096]. See `Hello`."""
        self._identity = (runner_id, tuple(sorted(components)), build)
        self._capacity = capacity
        self._window = capacity
        self._explained = losses_explained
        self._phase = _Phase.DETACHED
        self._held: dict[bytes, _Held] = {}
        self.running = 0
        self._bytes = 0
        self._permitted = 0
        self._lease_seconds = limits.LEASE_SECONDS
        self._good_until = self._certain_until = -inf
        self._doubted_at = -inf
        self._greeted_at = 0.0
        self._accepting = True
        self._hello = False
        self._renewal: float | None = None
        self._checkpoints: list[messages.Checkpoint] = []
        self._updates: dict[bytes, messages.SubscriptionUpdate] = {}
        self._outcomes: list[messages.Outcome] = []
        self._wanted: frozenset[str] = frozenset()
        self._calls: dict[tuple[str, str], messages.CallReport] = {}
        self._destinations_known = False  # whether the router named any on this stream

    @property
    def idle(self) -> bool:
        """Whether no lease is held: no running execution and no unsettled outcome."""
        return not self._held

    @property
    def attached(self) -> bool:
        return self._phase in (_Phase.ATTACHED, _Phase.LEAVING)

    def limit(self, window: int) -> bool:
        """Request no more work while `window` or `capacity` executions are running, whichever is less.

        Returns whether this allows more work, so that there is credit to send.
        """
        self._window = min(window, self._capacity)
        return self._credit() > 0

    def connected(self, now: float) -> None:
        self._phase = PHASES[self._phase, "connected()"]
        self._greeted_at = now
        self._hello = True
        self._renewal = None
        self._permitted = 0
        self._checkpoints.clear()
        self._updates.clear()
        self._outcomes.clear()
        self._calls.clear()

    def disconnected(self) -> None:
        """Record that the stream ended. Leases stay held; see `expire`.

        The router decides how long it waits for the next stream, so no lease is certain until then.
        """
        self._phase = PHASES[self._phase, "disconnected()"]
        self._certain_until = -inf
        self._permitted = 0

    def receive(self, message: messages.RouterMessage, now: float) -> list[Effect]:
        """Process a message from the router and return the effects to carry out, in order.

        `now` is seconds on any monotonic clock, the same one in all calls.

        Raises:
            InvalidError: the router violated the protocol (`ATTACH_PROTOCOL_VIOLATION`); end the stream.
        """
        self._check_turn(message)
        match message:
            case messages.AssignmentBatch():
                started = tuple(filter(self._assign, message.assignments))
                return [messages.AssignmentBatch(started)] if started else []
            case messages.CheckpointAck():
                return [*filter(self._durable, message.checkpoints)]
            case messages.Settlement():
                self._settle(message.leases)
                return []
            case messages.EventDeliveryBatch():
                return [*filter(self._deliver, message.deliveries)]
            case messages.Revocation():
                return [Abandon(lease, message.reason) for lease in message.leases if self._drop(lease)]
            case messages.Renewed():
                return self._extend(min(message.stamp / MICROSECONDS, now))
            case messages.Welcome():
                return self._welcome(message)
            case messages.Drain():
                self._phase = PHASES[self._phase, "Drain"]
                return [Reattach(message.grace)]
            case messages.LifecycleFilter() | messages.DestinationUpdates():
                return [self._learn(message)]

    def _learn(self, message: messages.LifecycleFilter | messages.DestinationUpdates) -> Effect:
        if isinstance(message, messages.LifecycleFilter):
            self._wanted = message.event_types
            return message
        self._destinations_known = True
        return UpdateDestinations(message.updates)

    def _check_turn(self, message: messages.RouterMessage) -> None:
        if isinstance(message, messages.Welcome) != (self._phase is _Phase.GREETING):
            raise protocol_violation(f"{type(message).__name__} while {self._phase.value}")

    def checkpoint(self, checkpoint: messages.Checkpoint) -> None:
        """Send a journal entry, to be made durable; ignored for a lease that is lost."""
        held = self._held.get(checkpoint.lease)
        if held is not None:
            self._check_in(held, checkpoint)

    def report_events(self, lease: bytes, index: int, events: tuple[LifecycleEvent, ...]) -> bool:
        """Send lifecycle events without a journal entry; `index` is that of the next entry.

        Ignored for a lease that is lost. Returns whether there is room for them; if not, they are dropped.
        """
        held = self._held.get(lease)
        if held is None:
            return True
        size = events_size(events)
        if held.pending_event_bytes + size > MAX_PENDING_EVENT_BYTES:
            return False
        held.pending_event_bytes += size
        held.without_entry += 1
        self._check_in(held, messages.Checkpoint(lease, index, None, events=events, number=held.without_entry))
        return True

    def _check_in(self, held: _Held, checkpoint: messages.Checkpoint) -> None:
        held.checkpoints[checkpoint.index, checkpoint.entry is not None, checkpoint.number] = checkpoint
        if self.attached:
            self._checkpoints.append(checkpoint)

    def subscribe(self, lease: bytes, subscriptions: tuple[Subscription, ...]) -> bool:
        """Send the subscriptions of a running execution; returns whether they changed and the lease is held."""
        held = self._held.get(lease)
        if held is None or held.waits_for == subscriptions:
            return False
        held.waits_for = subscriptions
        self._send_subscriptions(lease, held)
        return True

    def finish(
        self, lease: bytes, ending: messages.Ending, events: tuple[LifecycleEvent, ...] = (), history: bytes = b""
    ) -> None:
        """Send the outcome of an attempt and the lifecycle events before it; ignored for a lease that is lost."""
        held = self._held.get(lease)
        if held is None or held.outcome is not None:
            return
        held.outcome = messages.Outcome(lease, ending, events, history)
        held.waits_for = ()
        self._updates.pop(lease, None)
        self.running -= 1
        if self.attached:
            self._outcomes.append(held.outcome)

    def report_call(self, report: messages.CallReport) -> bool:
        """Send how calls to a destination ended, together with others of it; returns whether there is something new."""
        if not self.attached:
            return False
        key = report[:2]
        earlier = self._calls.get(key)
        if earlier is None:
            if len(self._calls) >= MAX_CALL_REPORTS:
                return False
        elif report.successes:
            failed = earlier.earlier_failures + earlier.failures
            report = earlier._replace(successes=earlier.successes + 1, failures=0, earlier_failures=failed)
        else:
            report = report._replace(
                successes=earlier.successes,
                failures=earlier.failures + report.failures,
                earlier_failures=earlier.earlier_failures,
                permitted=earlier.permitted or report.permitted,
            )
        self._calls[key] = report
        return True

    def drain(self) -> None:
        """Request no more work; assignments for outstanding credit may still arrive."""
        self._accepting = False

    def renew(self, now: float) -> None:
        """Renew all leases with the next write; without any lease, the answer vouches for those assigned later."""
        if self.attached:
            self._renewal = now

    def doubt_leases(self, now: float) -> None:
        """Record that this process stood still until `now`: only a later renewal proves that leases are valid.

        The stream may have ended meanwhile without its end being read; then the router keeps leases for a short time
        only.
        """
        self._certain_until = -inf
        self._doubted_at = int(now * MICROSECONDS) / MICROSECONDS  # as exact as the stamps of renewals

    def leases_certain(self, now: float) -> bool:
        """Whether leases that were not revoked are certainly valid, so that an effect may start.

        If not, they may still be valid. `LeasesConfirmed` follows as soon as that is known.
        """
        return now < self._certain_until

    def expire(self, now: float) -> list[Effect]:
        """Abandon and release all running executions if the router was unreachable for longer than a lease.

        The cause is unknown, since this process is alive: any of the abandoned executions may have caused it.
        """
        if self.attached or now < self._good_until:
            return []
        abandoned = [lease for lease, held in self._held.items() if held.outcome is None]
        for lease in abandoned:
            self.finish(lease, messages.Released("ROUTER_AWAY", charged=False))
        self._explained = self._explained and not abandoned
        return [Abandon(lease, "ROUTER_AWAY") for lease in abandoned]

    def take(self) -> list[messages.RunnerMessage]:
        """Return all messages to send now, in the required order."""
        if self._hello:
            self._hello = False
            return [messages.Hello(*self._identity, held_leases=tuple(self._held), losses_explained=self._explained)]
        if not self.attached:
            return []
        found: list[messages.RunnerMessage] = []
        if self._calls:  # before outcomes: an execution may park because of them
            found.append(messages.CallReports(tuple(self._calls.values())))
            self._calls.clear()
        if self._checkpoints:
            found += [messages.CheckpointBatch(part) for part in split(self._checkpoints, checkpoint_size)]
            self._checkpoints.clear()
        if self._updates:
            updates = [*self._updates.values()]
            found += [messages.SubscriptionBatch(part) for part in split(updates, update_size)]
            self._updates.clear()
        if self._outcomes:
            found += [messages.OutcomeBatch(part) for part in split(self._outcomes, outcome_size)]
            self._outcomes.clear()
        if self._renewal is not None:
            found.append(messages.Renewal(int(self._renewal * MICROSECONDS)))
            self._renewal = None
        credit = self._credit()
        if credit:
            self._permitted += credit
            found.append(messages.Credit(credit))
        return found

    def _welcome(self, message: messages.Welcome) -> list[Effect]:
        self._phase = PHASES[self._phase, "Welcome"]
        self._lease_seconds = message.lease_duration
        self._explained = True
        effects: list[Effect] = [AttachAccepted(message.lease_duration / RENEWALS_PER_LEASE)]
        if self._wanted:
            self._wanted = frozenset()
            effects.append(messages.LifecycleFilter(self._wanted))
        if self._destinations_known:
            self._destinations_known = False
            effects.append(UpdateDestinations((), renewed=True))
        for lease, held in list(self._held.items()):
            if lease not in message.retained_leases:
                self._drop(lease)
                effects.append(Abandon(lease, "LEASE_LOST"))
                continue
            self._checkpoints.extend(held.checkpoints.values())
            if held.generation and held.outcome is None:
                self._send_subscriptions(lease, held)
            if held.outcome is not None:
                self._outcomes.append(held.outcome)
        return effects + self._extend(self._greeted_at)

    def _extend(self, proven_at: float) -> list[Effect]:
        """Record that all leases that were not revoked were valid at `proven_at`."""
        self._good_until = max(self._good_until, proven_at + self._lease_seconds)
        if proven_at < self._doubted_at:
            return []
        self._certain_until = self._good_until
        return [LeasesConfirmed()]

    def _assign(self, assignment: messages.Assignment) -> bool:
        """Hold the lease of an assignment; returns whether it is a new one."""
        if self._permitted:
            self._permitted -= 1
        if assignment.lease in self._held:
            return False
        size = len(assignment.event)
        if assignment.journal:
            size += sum(len(entry.output or b"") for entry in assignment.journal)
        self._held[assignment.lease] = _Held(size)
        self.running += 1
        self._bytes += size
        return True

    def _durable(self, durable: messages.DurableCheckpoint) -> bool:
        """Forget what is durable; returns whether the lease is held."""
        lease, index, number = durable
        held = self._held.get(lease)
        if held is None:
            return False
        for known in [known for known in held.checkpoints if known[0] <= index or 0 < known[2] <= number]:
            checkpoint = held.checkpoints.pop(known)
            if checkpoint.entry is None:
                held.pending_event_bytes -= events_size(checkpoint.events)
        return True

    def _send_subscriptions(self, lease: bytes, held: _Held) -> None:
        held.generation += 1
        if self.attached:
            self._updates[lease] = messages.SubscriptionUpdate(lease, held.generation, held.waits_for or ())

    def _deliver(self, delivery: messages.EventDelivery) -> bool:
        """Whether a delivery is for the latest subscriptions; it is the only one for these."""
        held = self._held.get(delivery.lease)
        if held is None or not held.waits_for or delivery.generation != held.generation:
            return False
        held.waits_for = None  # the next subscriptions are sent again, even if they are the same
        return True

    def _settle(self, leases: tuple[bytes, ...]) -> None:
        for lease in leases:
            self._drop(lease)

    def _drop(self, lease: bytes) -> bool:
        held = self._held.pop(lease, None)
        if held is None:
            return False
        self._updates.pop(lease, None)
        self._bytes -= held.size
        if held.outcome is None:
            self.running -= 1
        return True

    def _credit(self) -> int:
        if not self._accepting or self._phase is not _Phase.ATTACHED or self._bytes > MAX_HELD_BYTES:
            return 0
        room = min(
            self._window - self.running,
            UNSETTLED_FACTOR * self._window - len(self._held),
            MAX_OUTSTANDING,
        )
        return max(0, min(room - self._permitted, MAX_CREDIT))
