"""Rate limits for the senders of one URL (`webhook.sender_rate_limit`).

The edge applies them, rather than the router, because only the edge can identify senders: by the credential that
authenticated them or, where none is required, by their address. So a sender that exceeds its rate costs no more than
the check of its signature. Each edge counts separately. The table is bounded: the sender that has been silent longest
is evicted, and later starts with a full bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

from flowhook.document.models.webhook import RateLimit
from flowhook.sharing.addresses import network_of
from flowhook.sharing.token_bucket import TokenBucket
from flowhook.signatures import Match

MAX_SENDERS: Final = 10_000  # senders of one URL that have a token bucket


def sender_identity(match: Match, address: IPv4Address | IPv6Address, *, authenticated: bool) -> str:
    """Return the identity of a sender among those of a URL; `authenticated`: whether credentials were required."""
    return f"{match.scheme} {match.secret}" if authenticated else network_of(address)


@attrs.define(eq=False, repr=False)
class SenderRateLimiter:
    """The token buckets of all senders of one URL: each may send at this rate."""

    _rate: RateLimit
    _max_senders: int = attrs.field(default=MAX_SENDERS, kw_only=True)
    _buckets: OrderedDict[str, TokenBucket] = attrs.field(init=False, factory=OrderedDict)

    def take(self, sender: str, now: float) -> float:
        """Count one request and return 0, or return the seconds after which the sender may retry."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = TokenBucket(per_second=self._rate.per_second, burst=self._rate.burst, now=now)
            self._buckets[sender] = bucket
            if len(self._buckets) > self._max_senders:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        return bucket.take(now)
