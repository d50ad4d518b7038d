"""The log of what was refused: enough for an operator to see why, too little for an attacker to fill a disk with."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flowhook import logs

PER_SECOND: Final = 10.0
BURST: Final = 50.0
"""Lines that may be written: a token bucket for all refusals together."""

log = logs.get_logger(__name__)


class RefusalLog:
    """Writes refusals, and how many it kept to itself."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Tell the time in seconds by `now`."""
        self._now = now
        self._tokens = BURST
        self._last = now()
        self._suppressed = 0

    def unauthenticated(
        self, *, flow: str, schemes: str, reason: str, detail: str, address: IPv4Address | IPv6Address
    ) -> None:
        """Tell of a request without valid credentials."""
        now = self._now()
        self._tokens = min(BURST, self._tokens + (now - self._last) * PER_SECOND)
        self._last = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return
        self._tokens -= 1.0
        log.warning(
            "request unauthenticated",
            flow=flow,
            schemes=schemes,
            reason=reason,
            detail=detail,
            address=str(address),
            suppressed=self._suppressed,
        )
        self._suppressed = 0
