"""Hand-overs that an operator asks for: which standby can take over, and how the owner learns that it is asked. No I/O.

The operator may not reach the owner, so any router takes the request, and puts it into its heartbeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from flowhook.errors import ConflictError, NotFoundError
from router.cluster.ownership import KnownOwner
from router.cluster.records import RouterRecord
from router.cluster.shard_map import LIVE_SECONDS, ShardSituation

ASKED_SECONDS: Final = 10.0  # for how long a router passes a request on


@dataclass(frozen=True, slots=True)
class HandOverRequest:
    """A request to the owner."""

    epoch: int  # number of the ownership that is to end
    successor: str  # the router that is to own the shard
    by: str  # name of the operator's token
    time: float  # when it was heard, monotonic (s)
    router: str = ""  # the router that was asked; empty: this one

    @classmethod
    def of(cls, record: RouterRecord, epoch: int, now: float) -> Self | None:
        """Return the request to the owner with this epoch that a router passes on, if any."""
        if not record.asked_epoch or record.asked_epoch != epoch:
            return None
        return cls(epoch, record.asked_successor, record.asked_by, now, record.router)

    def is_over(self, epoch: int, now: float) -> bool:
        """Whether it need not be passed on any longer, given the number of the ownership that is known."""
        return epoch != self.epoch or now - self.time > ASKED_SECONDS


def choose_successor(router: str, owner: KnownOwner, situation: ShardSituation) -> str:
    """Return the standby that is to take over: `router`, or (empty) the one that most edges and runners reach.

    Raises:
        NotFoundError: no router of this name is heard (`ROUTER_UNKNOWN`).
        ConflictError: it owns the shard already (`ALREADY_OWNER`), or can't take over now (`STANDBY_NOT_READY`).
    """
    live = {record.router: record for record, silence in situation.copies if silence <= LIVE_SECONDS}
    standbys = [record for name, record in live.items() if name != owner.router]
    if router == owner.router:
        names = ", ".join(record.router for record in standbys) or "none"
        raise ConflictError(
            f"{router} owns the shard already: name the router that is to own it (standbys: {names})",
            reason="ALREADY_OWNER",
        )
    if router and router not in live:
        raise NotFoundError(
            f"no router named {router} is heard; there are {', '.join(sorted(live))}", reason="ROUTER_UNKNOWN"
        )
    candidates = [record for record in standbys if record.candidate and router in ("", record.router)]
    if not candidates:
        states = "; ".join(
            f"{record.router} is {record.state.value}, at position {record.position} of the log"
            for record in standbys
            if router in ("", record.router)
        )
        raise ConflictError(
            f"no standby is caught up with {owner.router}: {states or 'there is none'}", reason="STANDBY_NOT_READY"
        )
    return max(candidates, key=lambda record: (not situation.is_isolated(record), record.reach)).router
