"""The owner of the shard, and the state of its copies and of the log, as this router knows them.

An operator who asks for a hand-over may not reach the owner: so any router takes the request, and puts it into its
heartbeats.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Protocol, Self

import attrs
from typing_extensions import override

import flowhook
from flowhook.errors import ConflictError, NotFoundError
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.reporting.reachability import describe_unreachable
from router.cluster.ownership import KnownOwner
from router.cluster.reachability import MAX_SHOWN
from router.cluster.records import MemberState, RouterRecord, Unreachable
from router.storage.commit_log.interface import LogStatus, StoredObject

LIVE_SECONDS: Final = 3.0  # silence after which a router is no longer named to clients, nor checked
ASKED_SECONDS: Final = 10.0  # for how long a router passes a request on


class RouterAddress(NamedTuple):
    """Where a router can be called, as it announces it; see `flowhook.v1.RouterAddress`."""

    router: str
    address: str
    instance: str


@dataclass(frozen=True, slots=True)
class ShardSituation:
    """What a router knows of the shard."""

    owner: KnownOwner | None  # its owner; None: none is known
    # all routers with a copy, this one included, by name, each with the seconds since it was heard
    copies: list[tuple[RouterRecord, float]]
    unreachable: list[Unreachable] = field(default_factory=list)  # who can't call which router

    def unreachable_from(self, router: str) -> Mapping[str, str]:
        """Return why processes can't call a router, by name of the process; at most `MAX_SHOWN`."""
        causes = {each.process: each.cause for each in self.unreachable if each.router == router}
        return dict(sorted(causes.items())[:MAX_SHOWN])

    def problem(self, record: RouterRecord) -> str:
        """Return what is wrong with the address of a router, in a sentence; empty: nothing is known to be."""
        return describe_unreachable(record.router, record.address, self.unreachable_from(record.router))

    def is_isolated(self, record: RouterRecord) -> bool:
        """Whether more processes can't call a router than can."""
        causes = self.unreachable_from(record.router)
        others = [each.router for each, silence in self.copies if silence <= LIVE_SECONDS and each is not record]
        return len(causes) > record.reach + sum(name not in causes for name in others)


@dataclass(frozen=True, slots=True)
class LogReport:
    """The log and what is stored beside it, for operators."""

    status: LogStatus  # of the log
    snapshots: list[StoredObject]  # of the shard, by ascending position


class ShardMap(Protocol):
    """Who owns the shard, as far as this router knows."""

    instance: str  # identifies this process among all that have this router's name

    def owner(self) -> KnownOwner | None:
        """Return the owner; None: none is known."""

    async def changed(self) -> None:
        """Wait until `owner` may have changed."""

    def situation(self) -> ShardSituation:
        """Return everything that this router knows."""

    def routers(self) -> list[RouterAddress]:
        """Return the routers that were heard lately, and whose addresses clients should check; by name."""

    def report(self, role: str, process: str, routers: Mapping[str, str]) -> None:
        """Take in which routers a process can call, and why not; see `ReachabilityReports.store`."""

    def hand_over(self, router: str, by: str) -> tuple[KnownOwner, str]:
        """Have the owner hand over, soon after this returns, to a router, or (empty) to any that could take over.

        `by` is the name of the caller's token. Returns the owner, and the router that is to be the next one. Raises as
        `choose_successor` does; UnavailableError: no router serves (`NO_OWNER`).
        """

    async def log_report(self) -> LogReport | None:
        """Return the state of the log, its servers and its snapshots; None: there is no log."""


@attrs.define(eq=False, repr=False)
class SingleOwner(ShardMap):
    """The map of the embedded storage, whose only router always is the owner."""

    _settings: RouterSettings
    _process_state: ProcessState
    _epoch: int
    instance: str = attrs.field(init=False, factory=partial(secrets.token_hex, 8))

    @override
    def owner(self) -> KnownOwner:
        address = self._settings.advertise or self._process_state.addresses.get("grpc", "")
        return KnownOwner(self._process_state.name, address, self._epoch, serving=True)

    @override
    async def changed(self) -> None:
        await asyncio.Event().wait()  # it never does

    @override
    def situation(self) -> ShardSituation:
        own, version = self.owner(), flowhook.__version__
        record = RouterRecord(own.router, own.address, version, MemberState.SERVING, own.epoch, 0, 0, candidate=False)
        return ShardSituation(own, [(record, 0.0)])

    @override
    def routers(self) -> list[RouterAddress]:
        return []

    @override
    def report(self, role: str, process: str, routers: Mapping[str, str]) -> None: ...

    @override
    def hand_over(self, router: str, by: str) -> tuple[KnownOwner, str]:
        del router, by
        raise ConflictError("the storage is embedded: it has one router, and no standby", reason="STANDBY_NOT_READY")

    @override
    async def log_report(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HandOverRequest:
    """A request of an operator to the owner."""

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
