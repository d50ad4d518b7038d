"""Decides when a router claims the shard and when it gives up: a state machine without I/O and without a clock.

`TRANSITIONS` has the states; docs/architecture.md shows them.

An owner hands over by itself when it learns that most edges and runners can't reach it, and that a standby that could
take over is reached by most: see `successor`. Clients decide that, not routers, whose network may be another; but
routers confirm it, so that a single process never moves the shard.

Whatever it decides, the log lets one claim in: a claim is a record that must directly follow the last one the claimer
has read. So mistakes here cost time, never an event.

Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.cluster.reachability import Voices
from router.cluster.records import MemberState, RouterRecord

EXPIRE_SECONDS: Final = 1.5  # silence after which an owner is taken for dead
RANK_SECONDS: Final = 0.5  # how much longer each further candidate waits before it claims in place of those before it
PAUSE_SECONDS: Final = 0.3  # pause after a claim that was refused, and after a loss
# how much longer an owner that has handed over to another router waits for that one than for any other
HEIR_SECONDS: Final = 5.0
# for how long most edges and runners must be unable to reach an owner before it hands over
CUT_OFF_SECONDS: Final = 5.0
# for how long a router serves before it hands over because it is not reached: reports need that to arrive
TENURE_SECONDS: Final = 10.0
# how often the shard moves within `YIELDS_SECONDS` because owners are not reached: a network that keeps changing, or
# false reports, must not keep it moving
MAX_YIELDS: Final = 3
YIELDS_SECONDS: Final = 600.0
MIN_WITNESSES: Final = 2  # how many processes, routers included, must be unable to reach an owner
MAX_PEERS: Final = 64  # most routers that are remembered; the one that was silent longest makes room


class OwnershipEvent(StrEnum):
    """What moves a router from one state to the next."""

    DUE = "due"  # the owner is silent or has yielded, and this router is the first that could claim
    REFUSED = "refused"  # the log refused the claim
    CLAIMED = "claimed"  # the log accepted the claim
    READY = "ready"  # the unfinished executions are loaded, and calls are answered
    HAND_OVER = "hand_over"  # an operator, or the reports of edges and runners, ask for another owner
    STOP = "stop"  # the process is to stop
    LOSE = "lose"  # the log refused a record, or another router has a later ownership
    DONE = "done"  # everything that the ownership had started has ended


# The next state, by state and event. In a state that has no row for it, an event changes nothing.
TRANSITIONS: Final = {
    (MemberState.FOLLOWING, OwnershipEvent.DUE): MemberState.CLAIMING,
    (MemberState.CLAIMING, OwnershipEvent.REFUSED): MemberState.FOLLOWING,
    (MemberState.CLAIMING, OwnershipEvent.CLAIMED): MemberState.RECOVERING,
    (MemberState.RECOVERING, OwnershipEvent.READY): MemberState.SERVING,
    (MemberState.RECOVERING, OwnershipEvent.STOP): MemberState.HANDING_OVER,
    (MemberState.RECOVERING, OwnershipEvent.LOSE): MemberState.LOST,
    # a defect ended the serving: the next owner recovers from what is stored
    (MemberState.RECOVERING, OwnershipEvent.DONE): MemberState.FOLLOWING,
    (MemberState.SERVING, OwnershipEvent.HAND_OVER): MemberState.HANDING_OVER,
    (MemberState.SERVING, OwnershipEvent.STOP): MemberState.HANDING_OVER,
    (MemberState.SERVING, OwnershipEvent.LOSE): MemberState.LOST,
    (MemberState.SERVING, OwnershipEvent.DONE): MemberState.FOLLOWING,
    # what is under way when the log refuses a record can't be finished, hand-over or not
    (MemberState.HANDING_OVER, OwnershipEvent.LOSE): MemberState.LOST,
    (MemberState.HANDING_OVER, OwnershipEvent.DONE): MemberState.FOLLOWING,
    (MemberState.LOST, OwnershipEvent.DONE): MemberState.FOLLOWING,
}


@dataclass(slots=True)
class _Peer:
    record: RouterRecord
    heard: float


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby that could take over, as its owner knows it."""

    router: str
    reach: int  # how many edges and runners can call it
    cut_off: int  # how many of those that report to it can't call the owner
    reaches_owner: bool  # whether it can call the owner itself


def better_reached(voices: Voices, standbys: Collection[Standby]) -> str:
    """Return the standby to which an owner should hand over, because most edges and runners can't reach it.

    The reports of those that can't reach the owner are with the standbys, with each of them perhaps: so the most that
    one of them has count, not the sum. `voices` are the reports that the owner itself has.

    Empty: the owner should stay, because no majority is cut off from it, or because no standby is reached by a majority
    and by more than the owner.
    """
    cut_off = max([voices.cut_off, *(each.cut_off for each in standbys)])
    confirming = sum(not each.reaches_owner for each in standbys)
    if cut_off <= voices.reach or cut_off + confirming < MIN_WITNESSES:
        return ""
    best = max(standbys, key=lambda each: (each.reach, _weight(each.router)), default=None)
    if best is None or best.reach <= voices.reach or 2 * best.reach <= cut_off + voices.reach:
        return ""
    return best.router


@dataclass(frozen=True, slots=True)
class KnownOwner:
    """The owner, as far as this router knows."""

    router: str
    address: str  # for gRPC
    epoch: int  # number of its ownership
    serving: bool  # whether it answers calls


class Ownership:
    """The state machine of one router and one shard, from when it starts to listen to the others."""

    def __init__(self, router: str, now: float) -> None:
        self.router = router
        self.state = MemberState.FOLLOWING
        self.epoch = 0  # number of the ownership, while it owns the shard; else of the last one known
        self.yielded = 0  # number of the last ownership that this router gave up in order
        self.successor = ""  # the router to which it gave that up, or is giving it up; empty: whichever is first
        self.voices = Voices()  # what edges and runners report of how they reach this router
        self._serving_since: float | None = None
        self._cut_off_since: float | None = None
        self._yields: deque[float] = deque(maxlen=MAX_YIELDS)
        self._heir = ""
        self._can_claim = False
        self._resumes = False
        self._stopping = False
        self._peers: dict[str, _Peer] = {}
        self._owner: RouterRecord | None = None
        self._free_since = now + EXPIRE_SECONDS
        self._not_before = now
        self._last_look = now
        self._claim = (0, 0)

    @property
    def owns(self) -> bool:
        """Whether this router owns the shard, as far as it knows."""
        return self.state.owns

    @property
    def keeps(self) -> bool:
        return self.owns and self.state is not MemberState.HANDING_OVER

    @property
    def candidate(self) -> bool:
        return self.state is MemberState.FOLLOWING and self._can_claim and not self._stopping

    def owner(self) -> KnownOwner | None:
        """Return the other router that owns the shard, or None if none is known: use it while not `owns`."""
        record = self._owner
        if record is None or not record.state.owns:
            return None
        return KnownOwner(record.router, record.address, record.epoch, record.state is MemberState.SERVING)

    def peers(self, now: float) -> list[tuple[RouterRecord, float]]:
        """Return the other routers, by name, each with the seconds since it was heard."""
        return [(peer.record, now - peer.heard) for _, peer in sorted(self._peers.items())]

    # --- what happens -----------------------------------------------------------------------------------------------

    def heard(self, record: RouterRecord, now: float) -> None:
        """Take in what another router said of itself, at the time `now` of the monotonic clock, in seconds."""
        # two routers of one name would take each other's words for theirs
        if record.router == self.router or not self._agrees_with_log(record):
            return
        self._peers[record.router] = _Peer(record, now)
        if len(self._peers) > MAX_PEERS:
            del self._peers[min(self._peers, key=lambda name: self._peers[name].heard)]
        if self.owns:
            if record.state.owns and record.epoch > self.epoch:
                self._owner = record
                self.lose()
                self._free_since = now + EXPIRE_SECONDS
        elif record.state.owns:
            if record.epoch >= self.epoch:
                if record.epoch > self.epoch:
                    self._heir = ""
                self._owner, self.epoch = record, record.epoch
                self._free_since = now + EXPIRE_SECONDS
        elif self._owner is not None and self._owner.router == record.router:
            if record.yielded == self._owner.epoch and record.successor:
                self._heir = record.successor
                self._yields.append(now)
            self._owner = None  # it has given up: nobody has to be waited for
            self._free_since = now

    def _agrees_with_log(self, record: RouterRecord) -> bool:
        epoch, claim = self._claim
        return not record.state.owns or record.epoch != epoch or 0 in (claim, record.claim) or record.claim == claim

    def follows(self, *, current: bool, epoch: int, now: float, own: bool = False, claim: int = 0) -> None:
        """Record what this router follows, and whether it has read the log to its end without a gap (`current`).

        `epoch`: number of the last ownership that it has read of; `own`: whether that was this router's, in an earlier
        process; `claim`: position of its first record, 0: unknown.
        """
        self._claim = epoch, claim
        self._can_claim = current
        if epoch > self.epoch and not self.owns:  # an owner that was not heard yet, and is to be heard now
            self.epoch = epoch
            self._free_since = now + EXPIRE_SECONDS
        self._resumes = own and current and epoch == self.epoch and self._owner is None

    def due(self, now: float) -> bool:
        """Whether to claim now; then the state is CLAIMING. Call it several times within the expiry."""
        if now - self._last_look > EXPIRE_SECONDS / 2:  # this process was stopped: it could not hear the others
            self._free_since = max(self._free_since, now + EXPIRE_SECONDS)
        self._last_look = now
        # an owner that was started again need not wait for itself to be silent
        free = now if self._resumes else self._free_since + RANK_SECONDS * self._rank(now)
        if not self.candidate or now < max(free, self._not_before):
            return False
        return self._move(OwnershipEvent.DUE)

    def refused(self, now: float) -> None:
        self._expect(MemberState.CLAIMING)
        self._move(OwnershipEvent.REFUSED)
        self._follow(now)

    def claimed(self, epoch: int) -> None:
        """The claim is in the log: this router owns the shard."""
        self._expect(MemberState.CLAIMING)
        self.epoch = epoch
        self.successor = self._heir = ""
        self._serving_since = self._cut_off_since = None
        self._move(OwnershipEvent.CLAIMED)

    def ready(self) -> None:
        """The unfinished executions are loaded, and calls are answered."""
        self._move(OwnershipEvent.READY)

    def hand_over(self, successor: str, now: float) -> None:
        """Let another router own the shard, if this one serves it; `successor` claims before the others."""
        if self._move(OwnershipEvent.HAND_OVER):
            self.successor = self._heir = successor
            self._yields.append(now)

    def lose(self) -> None:
        """The log refused a record, or another router has a later ownership; also while handing over."""
        self._move(OwnershipEvent.LOSE)

    def stop(self) -> None:
        """This router is to stop: it hands over, and claims no more."""
        self._stopping = True
        if self._move(OwnershipEvent.STOP):
            self.successor = ""

    def done(self, now: float) -> None:
        """Everything that the ownership had started has ended, and nothing more will be appended."""
        if self.state is MemberState.HANDING_OVER:
            self.yielded = self.epoch
        if self._owner is None or self._owner.epoch < self.epoch:
            self._owner = None
            # the others come first, and who was named is waited for, however busy its machine is
            self._free_since = now + EXPIRE_SECONDS + (HEIR_SECONDS if self.successor else 0.0)
        self._move(OwnershipEvent.DONE)
        self._follow(now)

    def makes_snapshots(self, now: float) -> bool:
        """Whether this router is the one that makes snapshots: the first standby, or an owner without a standby."""
        candidates = any(peer.record.candidate and now - peer.heard <= EXPIRE_SECONDS for peer in self._peers.values())
        return (self.candidate and self._rank(now) == 0) or (self.state is MemberState.SERVING and not candidates)

    # --- decisions --------------------------------------------------------------------------------------------------

    def due_successor(self, now: float) -> str:
        """Return to which router to hand over now, because this owner is not reached; empty: to none.

        Call it several times within `CUT_OFF_SECONDS`.
        """
        if self.state is not MemberState.SERVING:
            return ""
        if self._serving_since is None:
            self._serving_since = now
        better = better_reached(self.voices, list(self.standbys(now)))
        if not better:
            self._cut_off_since = None
            return ""
        if self._cut_off_since is None:
            self._cut_off_since = now
        recent = sum(now - each < YIELDS_SECONDS for each in self._yields)
        due = (
            now - self._cut_off_since >= CUT_OFF_SECONDS
            and now - self._serving_since >= TENURE_SECONDS
            and recent < MAX_YIELDS
        )
        return better if due else ""

    def standbys(self, now: float) -> Iterator[Standby]:
        """Yield the other routers that could take over from this one, which is the owner."""
        for name, record in self._candidates(now):
            if record.epoch == self.epoch:  # else it may speak of another owner
                reaches = not any((each.router, each.process) == (self.router, name) for each in record.unreachable)
                yield Standby(name, record.reach, record.cut_off, reaches)

    def _candidates(self, now: float) -> Iterator[tuple[str, RouterRecord]]:
        for name, peer in self._peers.items():
            if peer.record.candidate and now - peer.heard <= EXPIRE_SECONDS:
                yield name, peer.record

    def _rank(self, now: float) -> int:
        """Return how many live candidates come before this router.

        First is the one to which the last owner has handed over, then those that edges and runners reach, each by
        rendezvous hashing. Routers may see that differently for a moment: then two claim at once, and the log lets one
        in.
        """
        candidates = dict(self._candidates(now))
        most = max([self.voices.reach, *(record.reach for record in candidates.values())])

        def key(name: str, reach: int) -> tuple[bool, bool, bytes]:
            return name == self._heir, 2 * reach >= most, _weight(name)

        mine = key(self.router, self.voices.reach)
        return sum(key(name, record.reach) > mine for name, record in candidates.items())

    def _move(self, event: OwnershipEvent) -> bool:
        """Go to the next state; false: the event changes nothing in this one."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            return False
        self.state = state
        return True

    def _follow(self, now: float) -> None:
        self._can_claim = self._resumes = False
        self._not_before = self._last_look = now + PAUSE_SECONDS

    def _expect(self, state: MemberState) -> None:
        if self.state is not state:
            raise AssertionError(f"in state {self.state}, not {state}")


def _weight(router: str, shard: int = 0) -> bytes:
    return hashlib.sha256(f"{shard}:{router}".encode()).digest()
