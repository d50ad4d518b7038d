"""The receive budget: bytes of incomplete heads and of bodies in memory, over all connections of an edge.

A small body that was received along with its head is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from flowhook.errors import FlowhookError
from flowhook.sharing import Limit, Principal, Seat, SharedLimit
from flowhook.sharing.limit import address_principal
from flowhook.sharing.table import EdgeLimits


class Overloaded(Exception):  # noqa: N818 - names a state, not an error
    """Requests being received exceed the receive budget, or their sender's share of it."""


class ReceiveBudget:
    """The bytes in use, of which each sender may have a share."""

    def __init__(
        self,
        limit: Limit | None = None,
        principal: Callable[[IPv4Address | IPv6Address], Principal] = address_principal,
    ) -> None:
        """Share out what `limit` says, by default that of `EdgeLimits`, among the owners of addresses."""
        self._bytes = SharedLimit(limit or EdgeLimits().received_bytes)
        self._principal = principal

    @property
    def used(self) -> int:
        return self._bytes.used

    def seat(self, address: IPv4Address | IPv6Address) -> Seat:
        """Return what a connection or a request of an address uses: nothing yet."""
        return self._bytes.acquire(self._principal(address), 0)


def charge(seat: Seat, size: int) -> None:
    """Charge so many bytes in place of those that a seat has; if they are too many, raise Overloaded instead."""
    try:
        seat.resize(size)
    except FlowhookError:
        raise Overloaded from None
