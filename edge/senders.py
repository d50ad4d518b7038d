"""How much each sender of one URL may send (`webhook.sender_rate_limit`).

Here rather than at the router, for it is here that senders are known: by the credential that let them in or, where none
is asked for, by their address. So one that sends too much costs no more than the check of its signature. Each edge
counts for itself. The table is bounded: who has sent nothing for the longest time is forgotten, and begins anew.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flowhook.document.webhook import RateLimit
from flowhook.signatures import Match
from flowhook.token_bucket import TokenBucket

MAX_SENDERS: Final = 10_000
"""Senders of one URL that are remembered."""

_SITE_BITS: Final = 64
"""Of an IPv6 address, what its owner can't choose at will (RFC 4291, section 2.5.4)."""


def sender_of(match: Match, address: IPv4Address | IPv6Address, *, asked: bool) -> str:
    """Return what tells a sender from the others of a URL; `asked`: whether it had to show credentials."""
    return f"{match.scheme} {match.secret}" if asked else site_of(address)


def site_of(address: IPv4Address | IPv6Address) -> str:
    """Return what tells an address from those of others: itself or, of an IPv6 address, its network."""
    return str(int(address) >> _SITE_BITS) if isinstance(address, IPv6Address) else str(address)


class SenderRates:
    """The token buckets of all senders of one URL."""

    __slots__ = ("_buckets", "_max_senders", "_rate")

    def __init__(self, rate: RateLimit, *, max_senders: int = MAX_SENDERS) -> None:
        """Give every sender this rate."""
        self._rate = rate
        self._max_senders = max_senders
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, sender: str, now: float) -> float:
        """Count one request and return 0, or return after how many seconds the sender may come again."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = TokenBucket(per_second=self._rate.per_second, burst=self._rate.burst, now=now)
            self._buckets[sender] = bucket
            if len(self._buckets) > self._max_senders:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        return bucket.take(now)
