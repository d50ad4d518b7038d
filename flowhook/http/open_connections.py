"""The table of open connections, with limits in total and per address, and the choice of which one to close.

A sender that leaves connections idle must not lock others out: at either limit the connection that has waited longest
for a request is closed. An address shared by many senders, such as a proxy's, has no limit of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Generic, Protocol, TypeVar

import attrs

from flowhook.sharing.limit import network_of

MAX_CANDIDATES: Final = 256  # candidates that one scan of a group of connections collects for later use

# Minimum time between two scans of a group, per connection in it: 0.1 s for 10,000 connections, whose scan takes 3 ms.
# So a flood of new connections does not cause a scan for each of them.
LOOK_SECONDS: Final = 0.000_01

NEVER: Final = float("inf")


class ClosableConnection(Protocol):
    """The attributes of a connection that decide whether it may be closed to make room."""

    address: IPv4Address | IPv6Address  # address of the sender's side
    idle: bool  # whether no request has begun
    waiting_since: float  # loop time since which the connection waits for a request head; `NEVER` once it has one


C = TypeVar("C", bound=ClosableConnection)


class _Group(Generic[C]):
    """A group with a common limit: all connections, or those of one address."""

    __slots__ = ("_candidates", "_looked", "members")

    def __init__(self) -> None:
        self.members: set[C] = set()
        self._candidates: list[tuple[bool, float, C]] = []
        self._looked = -NEVER

    def candidate(self, now: float) -> C | None:
        """Return the connection to close, from the candidates of an earlier scan as long as there are any."""
        while True:
            while self._candidates:
                idle, since, connection = self._candidates.pop()
                if (connection.idle, connection.waiting_since) == (idle, since) and connection in self.members:
                    return connection
            if now - self._looked < LOOK_SECONDS * len(self.members):
                return None
            self._looked = now
            waiting = [each for each in self.members if each.waiting_since != NEVER]
            # idle ones first, longest waiting first
            chosen = heapq.nsmallest(MAX_CANDIDATES, waiting, key=lambda each: (not each.idle, each.waiting_since))
            self._candidates = [(each.idle, each.waiting_since, each) for each in reversed(chosen)]
            if not self._candidates:
                return None


@attrs.define(eq=False, repr=False, kw_only=True)
class OpenConnections(Generic[C]):
    """The table of open connections: `most` at a time, and `most_of_one` for each address that is not `shared`."""

    _most: int
    _most_of_one: int
    _shared: Callable[[IPv4Address | IPv6Address], bool]
    _now: Callable[[], float]
    _all: _Group[C] = attrs.field(init=False, factory=_Group)
    _by_site: dict[str, _Group[C]] = attrs.field(init=False, factory=dict)

    def __len__(self) -> int:
        return len(self._all.members)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._all.members))

    def add(self, connection: C) -> None:
        """Add a connection, whether there is room or not."""
        self._all.members.add(connection)
        self._by_site.setdefault(network_of(connection.address), _Group()).members.add(connection)

    def discard(self, connection: C) -> None:
        if connection in self._all.members:
            self._all.members.discard(connection)
            site = network_of(connection.address)
            others = self._by_site[site].members
            others.discard(connection)
            if not others:
                del self._by_site[site]

    def check_room(self, address: IPv4Address | IPv6Address) -> tuple[bool, C | None]:
        """Return whether there is room for one more connection of an address; if not, the one to close (None: none)."""
        others = self._by_site.get(network_of(address))
        if others is not None and len(others.members) >= self._most_of_one and not self._shared(address):
            return False, others.candidate(self._now())
        if len(self._all.members) < self._most:
            return True, None
        return False, self._all.candidate(self._now())
