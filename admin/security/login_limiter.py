"""Limits how often an address may present tokens that the router does not know; pure: the time is an argument.

Tokens can't be guessed (256 random bits). The limit protects the router from the calls that each attempt makes.
"""

from __future__ import annotations

import math
from ipaddress import ip_address
from typing import Final

from flowhook.sharing.addresses import network_of
from flowhook.sharing.token_bucket import TokenBucket

BURST: Final = 10  # attempts that an address may make at once
SECONDS_PER_ATTEMPT: Final = 6.0  # time in which an address gains one further attempt
# addresses that are remembered; beyond it the one that was seen least recently is forgotten
MAX_ADDRESSES: Final = 10_000


class LoginLimiter:
    """Counts attempts by address, those of an IPv6 network (/64) together."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def attempt(self, address: str, now: float) -> int:
        """Count an attempt and return 0, or return the seconds, rounded up, until one is allowed."""
        key = _network(address)
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(per_second=1 / SECONDS_PER_ATTEMPT, burst=BURST, now=now)
            if len(self._buckets) >= MAX_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return math.ceil(bucket.take(now))

    def give_back(self, address: str) -> None:
        """Undo an attempt of an address, because it presented a valid token. Those with others count."""
        bucket = self._buckets.get(_network(address))
        if bucket is not None:
            bucket.give_back()


def _network(address: str) -> str:
    try:
        return network_of(ip_address(address.partition("%")[0]))
    except ValueError:
        return address  # of a socket that has no address
