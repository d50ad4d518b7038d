"""A limit that many principals share: each may hold a part of it, and some of it is reserved.

The share of a principal follows from what the others leave: it may hold one part in `Limit.parts` of what they don't
use. Alone it gets that part of the whole. The more others there are, the less each gets, and something always remains
for a principal that holds nothing yet: its first request is accepted as long as there is any room.

Essential principals, which are edges and runners, use the whole, the reserve included. One of them may hold one part in
`Limit.essential_parts` of it.

Example, with a total of 1000, a reserve of 200 and four parts: one principal may hold 200 of 800. When others hold 400
it may hold 100. When others hold 799 it may hold 1. An essential one with two parts may hold 500 at any time, if they
are free.

Source: the shares are the dynamic thresholds of Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
packet switches", 1998. Seats are those of API Priority and Fairness of Kubernetes.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple, Self

import attrs

from flowhook.errors import ExhaustedError, FlowhookError, UnavailableError


class Principal(NamedTuple):
    """Who holds seats."""

    kind: str  # what it is, as a word for messages: `token`, `address`, `flow` ...
    name: str  # among those of its kind
    essential: bool = False  # whether the service depends on it: an edge or a runner


INTERNAL: Final = Principal("process", "", essential=True)  # the process itself, for work that no caller asked for

current_principal: ContextVar[Principal] = ContextVar("current_principal", default=INTERNAL)
"""The principal on whose behalf the current task works."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A shared limit, as the table in the docs shows it."""

    counts: str  # what is counted, in the plural: "watches of flows"
    per: str  # what a principal is: "token"
    total: int  # most that is held at a time, at least 1
    reason: str  # of the error when a principal's share is used
    full: str = ""  # reason of the error when there is no room for any principal; empty: the same
    _: KW_ONLY
    parts: int = 4  # a principal may hold one part in so many of what the others leave, but one seat in any case
    reserved: int = 0  # part of the total that only essential principals may hold
    essential_parts: int = 2  # an essential principal may hold one part in so many of the total
    waiting: int = 0  # most requests that wait when there is no room; 0: they are refused at once
    retry_after: int = 5  # seconds after which a refused caller may try again


@attrs.define(eq=False, repr=False)
class Seat:
    """What one request holds of a limit, 0 or more, until it is released or the `with` block of it is left."""

    _limit: SharedLimit | None
    principal: Principal
    size: int

    def resize(self, size: int) -> None:
        """Hold so much from now on, unless released; raises as `acquire` does, and then the seat is as before."""
        if self._limit is not None:
            if size > self.size:
                self._limit.add(self.principal, size - self.size)
            else:
                self._limit.remove(self.principal, self.size - size)
            self.size = size

    def release(self) -> None:
        """Give it back; without effect if that was done."""
        if self._limit is not None:
            limit, self._limit = self._limit, None
            limit.remove(self.principal, self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@attrs.define(eq=False, repr=False)
class SharedLimit:
    """What principals hold of a limit at present. Every operation takes constant time."""

    limit: Limit
    used: int = attrs.field(init=False, default=0)
    _ordinary: int = attrs.field(init=False, default=0)  # what others than essential principals hold
    _held: Counter[Principal] = attrs.field(init=False, factory=Counter)

    def acquire(self, principal: Principal, size: int = 1) -> Seat:
        """Let a principal hold so much, until it releases the seat.

        Raises:
            ExhaustedError: it exceeds the principal's share (`Limit.reason`).
            UnavailableError: there is no room (`Limit.full`).
        """
        self.add(principal, size)
        return Seat(self, principal, size)

    def has_room(self, principal: Principal, size: int = 1) -> bool:
        return self._refusal(principal, size) is None

    def free(self, *, essential: bool) -> int:
        """Return how much is left for all essential principals, or for all others."""
        free = self.limit.total - self.used
        return free if essential else min(free, self.limit.total - self.limit.reserved - self._ordinary)

    def add(self, principal: Principal, size: int) -> None:
        """See `acquire`, for callers that keep the size themselves and `remove` it."""
        limit, refusal = self.limit, self._refusal(principal, size)
        if refusal is ExhaustedError:
            message = (
                f"too many {limit.counts} of one {principal.kind}, which has its share of {limit.total}: end some, or"
                f" try again in {limit.retry_after} s"
            )
            raise ExhaustedError(message, reason=limit.reason, retry_after=limit.retry_after)
        if refusal is not None:
            message = f"no room for more {limit.counts}: there may be {limit.total}; try again in {limit.retry_after} s"
            raise UnavailableError(message, reason=limit.full or limit.reason, retry_after=limit.retry_after)
        self._held[principal] += size
        self.used += size
        if not principal.essential:
            self._ordinary += size

    def remove(self, principal: Principal, size: int) -> None:
        self.used -= size
        if not principal.essential:
            self._ordinary -= size
        if self._held[principal] == size:
            del self._held[principal]
        else:
            self._held[principal] -= size

    def _refusal(self, principal: Principal, size: int) -> type[FlowhookError] | None:
        """Return the class of the error that refuses so much more; None: it is accepted."""
        if not size:
            return None
        limit, held = self.limit, self._held[principal]
        free = self.free(essential=principal.essential)
        if principal.essential:
            share = max(limit.total // limit.essential_parts, 1)
        elif held:
            share = (free + held) // limit.parts
        else:  # what holds nothing yet may have what is left, however little that is
            share = max((limit.total - limit.reserved) // limit.parts, 1)
        if held + size > share and share < limit.total:
            return ExhaustedError
        return UnavailableError if size > free else None


# Bits of an IPv6 address that form the network prefix, which its owner can't choose (RFC 4291, section 2.5.4).
_NETWORK_BITS: Final = 64


def network_of(address: IPv4Address | IPv6Address) -> str:
    """Return what identifies the owner of an address: the address itself or, for IPv6, its network."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return str(int(address) >> _NETWORK_BITS) if isinstance(address, IPv6Address) else str(address)


def address_principal(address: IPv4Address | IPv6Address) -> Principal:
    return Principal("address", network_of(address))
