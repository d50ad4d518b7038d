"""Decides when a router claims the shard and when it gives up: a state machine without I/O and without a clock.

    state         on                              leads to
    FOLLOWING     `due`: the owner is silent or   CLAIMING
                  has yielded, and this router
                  is the first that could
    CLAIMING      the log refused                 FOLLOWING, after a pause
                  the log accepted                RECOVERING
    RECOVERING    ready                           SERVING
    SERVING       stop                            HANDING_OVER
    any of these  the log refused, or another     LOST
    three         router has a later ownership
    HANDING_OVER  done                            FOLLOWING, yielded
    LOST          done                            FOLLOWING, after a pause

Whatever it decides, the log lets one claim in: a claim is a record that must directly follow the last one the claimer
has read. So mistakes here cost time, never an event.

Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from router.cluster.records import MemberState, RouterRecord

EXPIRE_SECONDS: Final = 1.5
"""Silence after which an owner is taken for dead."""
RANK_SECONDS: Final = 0.5
"""How much longer each further candidate waits before it claims in place of those before it."""
PAUSE_SECONDS: Final = 0.3
"""Pause after a claim that was refused, and after a loss."""
MAX_PEERS: Final = 64
"""Most routers that are remembered; the one that was silent longest makes room."""


@dataclass(slots=True)
class _Peer:
    record: RouterRecord
    heard: float


@dataclass(frozen=True, slots=True)
class KnownOwner:
    """The owner, as far as this router knows.

    Attributes:
        router: its name.
        address: for gRPC.
        epoch: number of its ownership.
        serving: whether it answers calls.
    """

    router: str
    address: str
    epoch: int
    serving: bool


class Ownership:
    """The state machine of one router and one shard.

    Args:
        router: name of this router.
        now: time at which it starts to listen to the others.

    Attributes:
        state: see the module.
        epoch: number of the ownership, while it owns the shard; else of the last one known.
        yielded: number of the last ownership that this router gave up in order.
    """

    def __init__(self, router: str, now: float, *, expire_seconds: float = EXPIRE_SECONDS) -> None:
        self.router = router
        self.state = MemberState.FOLLOWING
        self.epoch = 0
        self.yielded = 0
        self._expire = expire_seconds
        self._can_claim = False
        self._resumes = False
        self._stopping = False
        self._peers: dict[str, _Peer] = {}
        self._owner: RouterRecord | None = None
        self._free_since = now + expire_seconds
        self._not_before = now
        self._last_look = now

    @property
    def owns(self) -> bool:
        """Whether this router owns the shard, as far as it knows."""
        return self.state.owns

    @property
    def candidate(self) -> bool:
        """Whether this router could take over."""
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
        """Another router announced itself."""
        if record.router == self.router:  # two routers of one name would take each other's words for theirs
            return
        self._peers[record.router] = _Peer(record, now)
        if len(self._peers) > MAX_PEERS:
            del self._peers[min(self._peers, key=lambda name: self._peers[name].heard)]
        if self.owns:
            if record.state.owns and record.epoch > self.epoch:
                self._owner = record
                self.lose()
                self._free_since = now + self._expire
        elif record.state.owns:
            if record.epoch >= self.epoch:
                self._owner, self.epoch = record, record.epoch
                self._free_since = now + self._expire
        elif self._owner is not None and self._owner.router == record.router:
            self._owner = None  # it has given up: nobody has to be waited for
            self._free_since = now

    def follows(self, *, current: bool, epoch: int, now: float, own: bool = False) -> None:
        """Record what this router follows.

        Args:
            current: whether it has read the log to its end without a gap.
            epoch: number of the last ownership that it has read of.
            now: the time.
            own: whether that ownership was this router's, in an earlier process.
        """
        self._can_claim = current
        if epoch > self.epoch and not self.owns:  # an owner that was not heard yet, and is to be heard now
            self.epoch = epoch
            self._free_since = now + self._expire
        self._resumes = own and current and epoch == self.epoch and self._owner is None

    def due(self, now: float) -> bool:
        """Whether to claim now; then the state is CLAIMING. Call it several times within the expiry."""
        if now - self._last_look > self._expire / 2:  # this process was stopped: it could not hear the others meanwhile
            self._free_since = max(self._free_since, now + self._expire)
        self._last_look = now
        # an owner that was started again need not wait for itself to be silent
        free = now if self._resumes else self._free_since + RANK_SECONDS * self._rank(now)
        if not self.candidate or now < max(free, self._not_before):
            return False
        self.state = MemberState.CLAIMING
        return True

    def refused(self, now: float) -> None:
        """The claim failed."""
        self._expect(MemberState.CLAIMING)
        self._follow(now)

    def claimed(self, epoch: int) -> None:
        """The claim is in the log: this router owns the shard."""
        self._expect(MemberState.CLAIMING)
        self.epoch = epoch
        self.state = MemberState.RECOVERING

    def ready(self) -> None:
        """The unfinished executions are loaded, and calls are answered."""
        if self.state is MemberState.RECOVERING:
            self.state = MemberState.SERVING

    def lose(self) -> None:
        """The log refused a record, or another router has a later ownership; also while handing over."""
        if self.owns:
            self.state = MemberState.LOST

    def stop(self) -> None:
        """This router is to stop: it hands over, and claims no more."""
        self._stopping = True
        if self.owns:
            self.state = MemberState.HANDING_OVER

    def done(self, now: float) -> None:
        """Everything that the ownership had started has ended, and nothing more will be appended."""
        if self.state is MemberState.HANDING_OVER:
            self.yielded = self.epoch
        if self._owner is None or self._owner.epoch < self.epoch:
            self._owner = None
            self._free_since = now + self._expire  # the others come first
        self._follow(now)

    def makes_snapshots(self, now: float) -> bool:
        """Whether this router is the one that makes snapshots: the first standby, or an owner without a standby."""
        candidates = any(peer.record.candidate and now - peer.heard <= self._expire for peer in self._peers.values())
        return (self.candidate and self._rank(now) == 0) or (self.state is MemberState.SERVING and not candidates)

    # --- decisions --------------------------------------------------------------------------------------------------

    def _rank(self, now: float) -> int:
        """Return how many live candidates come before this router, by rendezvous hashing."""
        mine = _weight(self.router)
        return sum(
            peer.record.candidate and now - peer.heard <= self._expire and _weight(name) > mine
            for name, peer in self._peers.items()
        )

    def _follow(self, now: float) -> None:
        self.state = MemberState.FOLLOWING
        self._can_claim = self._resumes = False
        self._not_before = self._last_look = now + PAUSE_SECONDS

    def _expect(self, state: MemberState) -> None:
        if self.state is not state:
            raise AssertionError(f"in state {self.state}, not {state}")


def _weight(router: str, shard: int = 0) -> bytes:
    return hashlib.sha256(f"{shard}:{router}".encode()).digest()
