"""Notes in memory when each flow's secrets last verified a request."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from flowhook import limits

MAX_PAIRS: Final = 20_000
"""Pairs of flow and secret that are noted; beyond it, the pair that was noted first makes room."""


class SecretMatches:
    """The last match of each pair of flow and secret. Noting one takes constant time.

    Attributes:
        since_ms: Unix time from which matches are noted.
    """

    def __init__(self, now_ms: int, *, max_pairs: int = MAX_PAIRS) -> None:
        self.since_ms = now_ms
        self._max_pairs = max_pairs
        self._times: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, flow_id: str, secret: str, time_ms: int) -> None:
        """Note that a secret verified a request of a flow, which exists, at a Unix time in ms."""
        pair = flow_id, secret
        if pair in self._times:
            self._times[pair] = time_ms
        elif secret and len(secret) <= limits.MAX_SECRET_NAME_LENGTH:
            if len(self._times) >= self._max_pairs:
                self._times.popitem(last=False)
            self._times[pair] = time_ms

    def last(self, flow_id: str, secret: str) -> int | None:
        """Return the time of the last match, Unix time in ms; None: none is noted."""
        return self._times.get((flow_id, secret))
