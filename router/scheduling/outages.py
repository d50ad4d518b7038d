"""Outages of destinations: which calls park, who tries again, and how those that wait are released afterwards.

A *destination* is the origin that a call goes to, `https://api.example.com`. Each flow has a *breaker* of its own for
each destination that its calls failed at:

    counting ──too many failures──▶ open ──a call succeeded──▶ draining ──all released──▶ counting
       │ time                        ▲  └── probe failed: the next one later               │
       ▼                             └──────────too many failures──────────────────────────┘
     (gone)

Too many failures are `failures` in a row, or a `ratio` of the last `WINDOW` calls since the state began.

While it is open or draining, executions of the flow park before they call the destination. While it is open, one at a
time is woken as a *probe*; the time to the flow's next one doubles with each that fails. While it is draining,
executions are released along a ramp: 10 at once, twice as many after each second, all after `DRAIN_MS`. The breakers
that drain share what is released at once.

Executions whose call failed before, and that wait for another try, by their policy, are no probes: they were charged
for that try. They follow the others when their destination is up, for the first time in an incident; by then the next
try may be hours away. They do so once an incident, so that a destination that goes up and down does not use up their
tries.

Where no breaker opened, because few calls failed, a success at the destination lets two of the flow's executions follow
that wait for another try there. Each of their calls follows once in this way, so that one that fails always, for a
reason of its own, keeps its tries for the hours that its policy means. A failure stops it until the next success.

Nobody opens a breaker for others: only calls of a flow count for it, failures and successes alike. What flows share is
the destination's *incident* and its pace: one probe at a time is made there, whichever flow it is of, and the next one
not before the shortest `probe_ms` of those flows. Namespaces take turns with it, and in a namespace its flows, so that
a flow whose calls fail always, or that is patient, does not delay those of others. The pause that an answer asks for is
that flow's alone: it may be about the account that the flow calls with.

An incident is open from the first breaker that opens until no breaker of the destination was open or draining for
`CALM_MS`; a destination that goes up and down is one incident. All times are Unix milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, islice
from typing import Final, NamedTuple

import attrs

from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from flowhook.attach.messages import CallReport, DestinationState, DestinationUpdate
from flowhook.events import ids
from flowhook.model.incidents import Incident, IncidentNote

MAX_BREAKERS: Final = 4096
MAX_BREAKERS_OF_FLOW: Final = 64
WINDOW: Final = 100  # calls of which the ratio of failures counts
MAX_PROBE_INTERVAL_MS: Final = 60_000  # unless a flow's first one is longer
PROBE_PATIENCE_MS: Final = 120_000  # a probe of which nothing is heard for so long is forgotten
DRAIN_MS: Final = 10_000
FIRST_RELEASED: Final = 10
FOLLOWERS: Final = 2  # executions that follow one success, where no breaker opened: so it takes on what it can
# time after its last failure for which a breaker that did not open is kept, unless executions wait for a success
COUNTED_MS: Final = 60_000
CALM_MS: Final = 30_000
# time after which an open breaker for which nobody waits is forgotten: nobody calls the destination any more, so that
# whether it is up can't be found out
UNUSED_MS: Final = 300_000
# age of an incident from which those that wait fail: what is still down by then is not coming back by itself
GIVE_UP_MS: Final = 3 * 24 * 3_600_000
MAX_SHOWN_FLOWS: Final = 20
MAX_NOTES: Final = 50
TICK_MS: Final = 100
IDLE_TICK_MS: Final = 5000  # while no incident is open
TIDY_MS: Final = 1000


class BreakerPolicy(NamedTuple):
    """When calls of a flow park; see `flowhook.document.models.execution`."""

    failures: int = 5  # in a row
    probe_ms: int = 10_000  # time until the first probe
    ratio: float = 0.7  # share of the last calls that fail


DEFAULT_BREAKER_POLICY: Final = BreakerPolicy()


class BreakerState(Enum):
    """Whether calls park, and how those that did are released."""

    COUNTING = "counting"
    OPEN = "open"
    DRAINING = "draining"


@dataclass(slots=True, eq=False)
class Breaker:
    """The calls of one flow to one destination."""

    flow_id: str
    destination: Destination
    policy: BreakerPolicy
    state: BreakerState = BreakerState.COUNTING
    failures: int = 0  # in a row
    calls: int = 0  # of which there is a bit in `failed`
    failed: int = 0  # whether each of the last calls in this state failed, one bit each, the last one in the lowest
    failed_ms: int = 0  # time of the last failure
    changed_ms: int = 0  # time since which it is in this state
    asked_ms: int = 0  # time until which the destination asked the flow to wait
    interval_ms: int = 0  # time from the last probe by this flow to the next one
    probe_at_ms: int = 0
    released: int = 0  # number of executions released since it drains
    credit: int = 0  # number of those that may follow although it did not open
    probed: int = 0  # number of the destination's last probe by this flow
    waiting: dict[int, None] = field(default_factory=dict)  # executions, in the order in which they parked
    failing: list[dict[int, None]] = field(default_factory=list)  # those whose calls fail, as an operator let them
    retries: RetryLine | None = None  # those that wait for another try and follow; None: nobody has in this incident

    @property
    def parks(self) -> bool:
        return self.state is not BreakerState.COUNTING

    @property
    def waiters(self) -> Iterator[dict[int, None]]:
        """All that has executions that parked."""
        return chain([self.waiting], self.failing)

    @property
    def followers(self) -> int:
        return len(self.waiting) + (0 if self.retries is None else len(self.retries.keys))

    @property
    def namespace(self) -> str:
        return self.flow_id.rpartition(".")[0]

    @property
    def has_failed(self) -> bool:
        """Whether so many calls have failed that others park."""
        ratio = self.policy.ratio * WINDOW
        return self.failures >= self.policy.failures or (self.calls == WINDOW and self.failed.bit_count() >= ratio)

    def count(self, calls: int, *, fail: bool) -> None:
        """Count calls that ended alike."""
        number = min(calls, WINDOW)
        self.calls = min(self.calls + number, WINDOW)
        self.failed = (self.failed << number | ((1 << number) - 1) * fail) & ((1 << WINDOW) - 1)


@dataclass(slots=True, eq=False)
class RetryLine:
    """Executions of a flow whose call to one destination failed and is tried again later."""

    id: tuple[str, str]
    keys: dict[int, str] = field(default_factory=dict)  # by execution: the key of the journal entry that ends its wait
    following: dict[int, None] = field(default_factory=dict)  # those that follow a success, without an incident


class Probe(NamedTuple):
    """A call that is made although the destination is down."""

    seq: int
    flow_id: str
    until_ms: int


@dataclass(slots=True, eq=False)
class Destination:
    """What all flows share of a destination."""

    origin: str
    breakers: dict[str, Breaker] = field(default_factory=dict)  # by flow
    opened_ms: int = 0  # start of the incident; 0: there is none
    cause: str = ""
    failures: int = 0  # calls that failed since the start of the incident
    flows: dict[str, None] = field(default_factory=dict)  # concerned since then, in order; the first ones
    probe_at_ms: int = 0  # no probe is made before, whichever flow it is of
    probe: Probe | None = None
    probes: int = 0  # number of probes so far
    namespaces: dict[str, int] = field(default_factory=dict)  # number of the last probe of each
    history: list[IncidentNote] = field(default_factory=list)
    calm_ms: int = 0  # time since which no breaker parks
    given_up_ms: int = 0  # time since which those that waited were let fail

    def note(self, text: str, now_ms: int) -> None:
        self.history.append(IncidentNote(now_ms, text))
        del self.history[1:-MAX_NOTES]  # the first one stays

    def incident(self, closed_ms: int | None = None) -> Incident:
        """Return the outage as it is stored and shown; `closed_ms` is the time of its end, or None if it goes on."""
        parking = self.parking
        due = [max(each.asked_ms, each.probe_at_ms) for each in parking if each.state is BreakerState.OPEN]
        is_open = bool(due)
        return Incident(
            id=incident_id(self.origin, self.opened_ms),
            destination=self.origin,
            cause=self.cause,
            open_time_ms=self.opened_ms,
            close_time_ms=closed_ms,
            flows=tuple(self.flows),
            failures=self.failures,
            probes=self.probes,
            history=tuple(self.history),
            waiting=sum(len(each.waiting) for each in parking),
            draining=not is_open,
            next_probe_time_ms=max(self.probe_at_ms, min(due)) if is_open and self.probe is None else None,
        )

    @property
    def parking(self) -> list[Breaker]:
        return [each for each in self.breakers.values() if each.parks]


class Wake(NamedTuple):
    """An execution to wake: it may call `origin` once, or (`failure`) its call fails with that cause."""

    seq: int
    origin: str
    failure: str = ""
    retry_key: str = ""  # it waits for another try: key of the journal entry that ends this


def _shares(breakers: Sequence[Breaker], found: Sequence[Wake], limit: int) -> Iterator[tuple[Breaker, int]]:
    """Yield breakers with their shares of what is left until so much is found."""
    for number, breaker in enumerate(breakers):
        yield breaker, max(0, -((len(found) - limit) // (len(breakers) - number)))


def incident_id(origin: str, opened_ms: int) -> str:
    """Return the ID of an incident: the same whenever it is made again."""
    return "inc_" + ids.derive(ids.slot_of(origin), opened_ms, f"incident {origin}").partition("_")[2]


@attrs.define(eq=False, repr=False)
class Outages:
    """The breakers of a shard. Its owner takes `announcements` and what has `changed` after each call."""

    _policy_of: Callable[[str], BreakerPolicy | None]  # of a flow; None: its calls never park
    # whether executions of a flow are not assigned at present, so that they make no probes
    _is_paused: Callable[[str], bool] = lambda _flow_id: False
    _runs: Callable[[int], bool] = lambda _seq: True  # whether a runner has an execution: it may still make its call
    _destinations: dict[str, Destination] = attrs.field(init=False, factory=dict)
    _of_flow: dict[str, dict[str, Breaker]] = attrs.field(init=False, factory=dict)  # by flow and destination
    _breakers: int = attrs.field(init=False, default=0)
    # flow and destinations of those that wait
    _parked: dict[int, tuple[str, tuple[str, ...]]] = attrs.field(init=False, factory=dict)
    _at_once: dict[int, Wake] = attrs.field(init=False, factory=dict)  # to wake without waiting for a probe
    _retries: dict[int, RetryLine] = attrs.field(init=False, factory=dict)  # of executions that wait for another try
    # those that follow no breaker yet
    _retry_lines: dict[tuple[str, str], RetryLine] = attrs.field(init=False, factory=dict)
    _following: dict[Breaker, None] = attrs.field(init=False, factory=dict)  # those with credit
    _tidied_ms: int = attrs.field(init=False, default=0)
    permits: dict[int, Wake] = attrs.field(init=False, factory=dict)  # of executions woken and not assigned yet
    announcements: dict[tuple[str, str], DestinationState] = attrs.field(init=False, factory=dict)
    changed: dict[str, Incident] = attrs.field(init=False, factory=dict)  # incidents to store, by ID

    def __bool__(self) -> bool:
        return bool(self._destinations)

    @property
    def waiting(self) -> int:
        return len(self._parked)

    # --- outcomes of calls ----------------------------------------------------------------------------------------

    def report(self, report: CallReport, now_ms: int) -> None:
        """Count outcomes of a flow's calls to a destination."""
        breaker = self._find(report.flow_id, report.origin)
        if report.successes and breaker is not None:
            self._succeeded(breaker, report, now_ms)
        if report.failures:
            self._failed(report, now_ms)

    def _succeeded(self, breaker: Breaker, report: CallReport, now_ms: int) -> None:
        breaker.failures = breaker.asked_ms = 0
        breaker.count(report.earlier_failures, fail=True)
        breaker.count(report.successes, fail=False)
        destination = breaker.destination
        if destination.probe is not None and destination.probe.flow_id == breaker.flow_id:
            destination.probe = None
        if breaker.state is BreakerState.OPEN:
            self._move(breaker, BreakerState.DRAINING, now_ms)
            breaker.released = 0
            if breaker.retries is None:
                id_ = breaker.flow_id, destination.origin
                breaker.retries = self._retry_lines.pop(id_, None) or RetryLine(id_)
            self._note(destination, f"up for {breaker.flow_id}; {breaker.followers} executions follow", now_ms)
            self._try_at_once(destination, now_ms)  # it is up for this flow
        elif breaker.state is BreakerState.COUNTING and self._followers(breaker):
            breaker.credit += FOLLOWERS * report.successes
            self._following[breaker] = None

    def _try_at_once(self, destination: Destination, now_ms: int) -> None:
        destination.probe_at_ms = now_ms
        for breaker in destination.breakers.values():
            breaker.interval_ms, breaker.probe_at_ms = 0, now_ms

    def _failed(self, report: CallReport, now_ms: int) -> None:
        breaker = self._breaker(report.flow_id, report.origin, now_ms)
        if breaker is None:
            return
        breaker.failures += report.failures
        breaker.count(report.failures, fail=True)
        breaker.failed_ms = now_ms
        self._stop_following(breaker)
        destination = breaker.destination
        breaker.asked_ms = max(breaker.asked_ms, now_ms + min(report.retry_after_ms, MAX_RETRY_AFTER_MS))
        if breaker.state is BreakerState.OPEN:
            destination.failures += report.failures
            destination.cause = report.cause or destination.cause
            probe = destination.probe
            # calls that were under way when it opened say nothing of the probe
            if report.permitted and probe is not None and probe.flow_id == breaker.flow_id:
                destination.probe = None
                self._next_probe(breaker, now_ms)
        elif breaker.has_failed:
            destination.cause = report.cause
            destination.failures += max(breaker.failures, breaker.failed.bit_count())
            self._open(breaker, now_ms)

    def _next_probe(self, breaker: Breaker, now_ms: int) -> None:
        destination = breaker.destination
        doubled = min(2 * breaker.interval_ms, MAX_PROBE_INTERVAL_MS)
        breaker.interval_ms = max(doubled, breaker.policy.probe_ms)
        breaker.probe_at_ms = now_ms + breaker.interval_ms
        opened = (each.policy.probe_ms for each in destination.breakers.values() if each.state is BreakerState.OPEN)
        destination.probe_at_ms = now_ms + min(opened, default=0)

    def _open(self, breaker: Breaker, now_ms: int) -> None:
        destination = breaker.destination
        if not destination.opened_ms:
            destination.opened_ms = now_ms
        if len(destination.flows) < MAX_SHOWN_FLOWS:
            destination.flows[breaker.flow_id] = None
        self._note(destination, f"down for {breaker.flow_id}: {destination.cause or 'it was before a restart'}", now_ms)
        is_first = not any(each.state is BreakerState.OPEN for each in destination.breakers.values())
        self._move(breaker, BreakerState.OPEN, now_ms)
        breaker.interval_ms = breaker.policy.probe_ms
        breaker.probe_at_ms = now_ms + breaker.interval_ms
        if is_first or breaker.probe_at_ms < destination.probe_at_ms:
            destination.probe_at_ms = breaker.probe_at_ms

    def _move(self, breaker: Breaker, state: BreakerState, now_ms: int) -> None:
        breaker.state, breaker.changed_ms, breaker.calls, breaker.failed = state, now_ms, 0, 0
        breaker.destination.calm_ms = 0 if breaker.destination.parking else now_ms
        self._announce(breaker, DestinationState.PARKS if breaker.parks else DestinationState.WATCHED)

    def _announce(self, breaker: Breaker, state: DestinationState) -> None:
        self.announcements[breaker.flow_id, breaker.destination.origin] = state

    def _find(self, flow_id: str, origin: str) -> Breaker | None:
        return self._of_flow.get(flow_id, {}).get(origin)

    def _breaker(self, flow_id: str, origin: str, now_ms: int) -> Breaker | None:
        """Return the breaker for a flow's calls, a new one if there is room; None: its calls do not park."""
        policy, breaker = self._policy_of(flow_id), self._find(flow_id, origin)
        if policy is None:
            return None
        if breaker is not None:
            return breaker
        of_flow = self._of_flow.get(flow_id, {})
        if self._breakers >= MAX_BREAKERS or len(of_flow) >= MAX_BREAKERS_OF_FLOW:
            # a flow may call hosts that its senders choose: they can't use up what it needs for those that are down
            healthy = [each for each in of_flow.values() if not each.parks and not each.failing]
            if not healthy:
                return None
            self._forget(min(healthy, key=lambda each: each.failed_ms))
        destination = self._destinations.setdefault(origin, Destination(origin))
        breaker = destination.breakers[flow_id] = Breaker(flow_id, destination, policy, failed_ms=now_ms)
        self._breakers += 1
        self._of_flow.setdefault(flow_id, {})[origin] = breaker
        self._announce(breaker, DestinationState.WATCHED)
        return breaker

    def _forget(self, breaker: Breaker) -> None:
        self._stop_following(breaker)
        destination = breaker.destination
        del destination.breakers[breaker.flow_id]
        self._breakers -= 1
        del self._of_flow[breaker.flow_id][destination.origin]
        if not self._of_flow[breaker.flow_id]:
            del self._of_flow[breaker.flow_id]
        self._announce(breaker, DestinationState.UNKNOWN)
        if not destination.breakers and not destination.opened_ms:
            del self._destinations[destination.origin]

    # --- executions -----------------------------------------------------------------------------------------------

    def park(self, seq: int, flow_id: str, origins: Sequence[str], now_ms: int) -> None:
        """Add an execution that waits for any of some destinations; if one of them is not down, it is woken at once."""
        self.leave(seq)
        self._parked[seq] = flow_id, tuple(origins)
        for origin in origins:
            breaker = self._find(flow_id, origin)
            if breaker is None or not breaker.parks:
                self._at_once[seq] = Wake(seq, origin)
                continue
            breaker.waiting[seq] = None
            destination = breaker.destination
            if destination.probe is not None and destination.probe.seq == seq:
                destination.probe = None  # it did not make the call, or was given to another runner meanwhile
                destination.probe_at_ms = max(destination.probe_at_ms, now_ms)

    def recover(self, seq: int, flow_id: str, origins: Sequence[str], now_ms: int) -> None:
        """Add an execution that was found waiting at a start: the destinations were down then."""
        for origin in origins:
            self._down(flow_id, origin, now_ms)
        self.park(seq, flow_id, origins, now_ms)

    def _down(self, flow_id: str, origin: str, now_ms: int) -> None:
        breaker = self._breaker(flow_id, origin, now_ms)
        if breaker is not None and not breaker.parks:
            breaker.failures = breaker.policy.failures
            self._open(breaker, now_ms)
            breaker.probe_at_ms = breaker.destination.probe_at_ms = now_ms

    def retry_later(self, seq: int, flow_id: str, origin: str, key: str, *, follows: bool) -> None:
        """Add an execution that waits for another try of its call; `key` is that of `Wake.retry_key`.

        `follows`: a success is enough, without an incident.
        """
        id_ = flow_id, origin
        line = self._retry_lines.setdefault(id_, RetryLine(id_))
        line.keys[seq] = key
        if follows:
            line.following[seq] = None
        self._retries[seq] = line

    def watch_retries(self, now_ms: int) -> None:
        """Watch, as far as there is room, for successes that executions follow which were found waiting at a start."""
        for (flow_id, origin), line in self._retry_lines.items():
            if line.following:
                self._breaker(flow_id, origin, now_ms)

    def _followers(self, breaker: Breaker) -> dict[int, None]:
        """Return the executions that follow a success, although it did not open."""
        line = self._retry_lines.get((breaker.flow_id, breaker.destination.origin))
        return {} if line is None else line.following

    def _stop_following(self, breaker: Breaker) -> None:
        breaker.credit = 0
        self._following.pop(breaker, None)

    def leave(self, seq: int) -> None:
        """Forget an execution that does not wait any more: something else woke it, or it has ended."""
        line = self._retries.pop(seq, None)
        if line is not None:
            del line.keys[seq]
            line.following.pop(seq, None)
            if not line.keys and self._retry_lines.get(line.id) is line:
                del self._retry_lines[line.id]
        parked = self._parked.pop(seq, None)
        if parked is None:
            woken = self.permits.pop(seq, None)
            if woken is not None:  # no runner has had it since, so it makes no call
                self.missed(woken)
            return
        self._at_once.pop(seq, None)
        flow_id, origins = parked
        for origin in origins:
            breaker = self._find(flow_id, origin)
            for waiters in () if breaker is None else breaker.waiters:
                waiters.pop(seq, None)

    def missed(self, wake: Wake) -> None:
        """Take back a wake: the execution did not wait any more, or makes no call."""
        destination = self._destinations.get(wake.origin)
        if destination is not None and destination.probe is not None and destination.probe.seq == wake.seq:
            destination.probe = None

    def wake(self, now_ms: int, limit: int) -> list[Wake]:
        """Remove and return the executions to wake now: what is released, at most `limit`, and as many probes."""
        if not 0 <= now_ms - self._tidied_ms < TIDY_MS:  # a clock may be set back
            self._tidied_ms = now_ms
            self._tidy(now_ms)
        found = list(islice(self._at_once.values(), -(-limit // 2)))
        for each in found:
            self.leave(each.seq)
        opened = [each for each in self._destinations.values() if each.opened_ms]
        failing = [each for one in opened for each in one.breakers.values() if each.failing]
        failing.sort(key=lambda each: len(each.failing[0]))  # what the first ones leave is for the others
        for breaker, share in _shares(failing, found, limit // 2):
            found += self._let_fail(breaker, share)
        draining = [each for one in opened for each in one.parking if each.state is BreakerState.DRAINING]
        draining.sort(key=lambda each: each.followers)
        for breaker, share in _shares(draining, found, limit):
            found += self._drain(breaker, now_ms, share)
        following = sorted(self._following, key=lambda each: each.credit)
        for breaker, share in _shares(following, found, limit):
            found += self._follow(breaker, share)
        probes = (self._probe(each, now_ms) for each in opened)
        found += islice((each for each in probes if each is not None), limit)
        return found

    def _let_fail(self, breaker: Breaker, limit: int) -> Iterator[Wake]:
        cause = breaker.destination.cause or "the destination is down"
        for seq in list(islice(breaker.failing[0], limit)):
            self.leave(seq)
            yield Wake(seq, breaker.destination.origin, cause)
        if not breaker.failing[0]:
            del breaker.failing[0]

    def _follow(self, breaker: Breaker, limit: int) -> Iterator[Wake]:
        followers = self._followers(breaker)
        for seq in list(islice(followers, min(breaker.credit, limit))):
            yield Wake(seq, breaker.destination.origin, retry_key=self._retries[seq].keys[seq])
            self.leave(seq)
            breaker.credit -= 1
        if not followers or not breaker.credit:
            self._stop_following(breaker)

    def _drain(self, breaker: Breaker, now_ms: int, limit: int) -> Iterator[Wake]:
        elapsed = max(0, now_ms - breaker.changed_ms)
        due = breaker.followers
        if elapsed < DRAIN_MS:
            due = min(due, int(FIRST_RELEASED * 2 ** (elapsed / 1000)) - breaker.released)
        retries = {} if breaker.retries is None else breaker.retries.keys
        for seq in list(islice(chain(breaker.waiting, retries), max(0, min(due, limit)))):
            yield Wake(seq, breaker.destination.origin, retry_key=retries.get(seq, ""))
            self.leave(seq)
            breaker.released += 1
        if not breaker.followers:
            self._move(breaker, BreakerState.COUNTING, now_ms)

    def _probe(self, destination: Destination, now_ms: int) -> Wake | None:
        probe = destination.probe
        if probe is not None and now_ms < probe.until_ms and (probe.seq in self.permits or self._runs(probe.seq)):
            return None  # else nothing more is heard of it: it took another way, and has ended or waits
        if now_ms < destination.probe_at_ms:
            return None
        due = [
            each
            for each in destination.breakers.values()
            if each.state is BreakerState.OPEN
            and each.waiting
            and max(each.asked_ms, each.probe_at_ms) <= now_ms
            and not self._is_paused(each.flow_id)
        ]
        if not due:
            return None
        numbers = destination.namespaces
        breaker = min(due, key=lambda each: (numbers.get(each.namespace, 0), each.probed))
        seq = next(iter(breaker.waiting))
        self.leave(seq)
        destination.probes += 1
        breaker.probed = numbers[breaker.namespace] = destination.probes
        destination.probe = Probe(seq, breaker.flow_id, now_ms + PROBE_PATIENCE_MS)
        return Wake(seq, destination.origin)

    def _tidy(self, now_ms: int) -> None:
        """Forget breakers that are not needed any more, and close incidents that are over."""
        for destination in list(self._destinations.values()):
            for breaker in list(destination.breakers.values()):
                self._tidy_breaker(breaker, now_ms)
            if not destination.opened_ms:
                continue
            if destination.parking or any(each.failing for each in destination.breakers.values()):
                if now_ms - max(destination.opened_ms, destination.given_up_ms) > GIVE_UP_MS:
                    self.let_fail(destination.origin, now_ms)
            elif not destination.calm_ms:
                destination.calm_ms = now_ms
            elif now_ms - destination.calm_ms >= CALM_MS:
                self._close(destination, now_ms)

    def _tidy_breaker(self, breaker: Breaker, now_ms: int) -> None:
        policy = self._policy_of(breaker.flow_id)
        if policy is None and breaker.state is BreakerState.OPEN:  # switched off since
            self._move(breaker, BreakerState.DRAINING, now_ms - DRAIN_MS)
        breaker.policy = policy or breaker.policy
        if breaker.failing:
            unused = False
        elif breaker.state is BreakerState.COUNTING:
            unused = now_ms - breaker.failed_ms > COUNTED_MS and not self._followers(breaker)
        else:
            unused = not breaker.waiting and now_ms - max(breaker.changed_ms, breaker.failed_ms) > UNUSED_MS
        if unused:
            if breaker.state is BreakerState.OPEN:
                self._note(breaker.destination, f"{breaker.flow_id} does not call it any more", now_ms)
            self._forget(breaker)

    def _close(self, destination: Destination, now_ms: int) -> None:
        self._note(destination, "over", now_ms, closed=True)
        if destination.breakers:
            fresh = self._destinations[destination.origin] = Destination(destination.origin, destination.breakers)
            for breaker in fresh.breakers.values():
                breaker.destination, breaker.probed, breaker.retries = fresh, 0, None
        else:
            del self._destinations[destination.origin]

    def _note(self, destination: Destination, text: str, now_ms: int, *, closed: bool = False) -> None:
        destination.note(text, now_ms)
        found = destination.incident(now_ms if closed else None)
        self.changed[found.id] = found

    def restore(self, incident: Incident, now_ms: int) -> None:
        """Continue an incident that was open before a start; call it before `recover`."""
        destination = self._destinations[incident.destination] = Destination(
            incident.destination,
            opened_ms=incident.open_time_ms,
            cause=incident.cause,
            failures=incident.failures,
            flows=dict.fromkeys(incident.flows),
            probes=incident.probes,
            history=list(incident.history),
            calm_ms=now_ms,
        )
        destination.note("the router started", now_ms)
        for flow_id in incident.flows:
            self._down(flow_id, incident.destination, now_ms)

    # --- operators ------------------------------------------------------------------------------------------------

    def probe_now(self, origin: str, now_ms: int) -> bool:
        """Make the next probe due; false: there is no incident."""
        destination = self._destinations.get(origin)
        if destination is None or not destination.opened_ms:
            return False
        self._try_at_once(destination, now_ms)
        for breaker in destination.breakers.values():
            breaker.asked_ms = 0
        self._note(destination, "an operator asked for a probe", now_ms)
        return True

    def let_fail(self, origin: str, now_ms: int) -> int | None:
        """Let the calls that wait fail with the last cause; returns how many, None: there is no incident."""
        destination = self._destinations.get(origin)
        if destination is None or not destination.opened_ms:
            return None
        found = 0
        for breaker in destination.parking:
            if breaker.waiting:
                found += len(breaker.waiting)
                breaker.failing.append(breaker.waiting)
                breaker.waiting = {}
        destination.given_up_ms = now_ms
        self._note(destination, f"calls of {found} executions that waited fail", now_ms)
        return found

    # --- queries --------------------------------------------------------------------------------------------------

    @property
    def tick_ms(self) -> int | None:
        """Return how soon `wake` should be called again, in ms; None: when something has changed."""
        if self._at_once or self._following or any(each.opened_ms for each in self._destinations.values()):
            return TICK_MS
        return IDLE_TICK_MS if self._destinations else None

    def states(self) -> Iterable[DestinationUpdate]:
        """Return what runners have to know, all of it."""
        for origin, destination in self._destinations.items():
            for flow_id, breaker in destination.breakers.items():
                yield DestinationUpdate(
                    flow_id, origin, DestinationState.PARKS if breaker.parks else DestinationState.WATCHED
                )

    def incidents(self) -> list[Incident]:
        """Return the open incidents, the oldest first."""
        found = [each.incident() for each in self._destinations.values() if each.opened_ms]
        return sorted(found, key=lambda each: (each.open_time_ms, each.destination))

    def open_by_flow(self) -> Counter[str]:
        """Return the number of open incidents by flow, of those that are the first ones of an incident."""
        return Counter(flow for each in self._destinations.values() if each.opened_ms for flow in each.flows)

    def destinations_of(self, seq: int) -> tuple[str, ...]:
        """Return the destinations that an execution waits for."""
        parked = self._parked.get(seq)
        return () if parked is None else parked[1]
