"""The overview: numbers of executions over a period, of all flows or of one, and those of the period before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flowhook.model.times import time_of

MINUTE_MS: Final = 60_000


class Period(StrEnum):
    """A period up to now."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


MINUTES: Final = {Period.HOUR: 60, Period.DAY: 24 * 60, Period.WEEK: 7 * 24 * 60, Period.MONTH: 30 * 24 * 60}
STEPS: Final = {Period.HOUR: 1, Period.DAY: 15, Period.WEEK: 2 * 60, Period.MONTH: 8 * 60}
"""Minutes of each point of a period, which begin at multiples of that in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewPoint:
    """Numbers of one step of a period, or of all of it. Durations are in seconds; null: nothing was measured.

    `accepted`: executions that were accepted. `completed`, `faulted` and `cancelled`: those that ended so. `pending`:
    the most at a time that waited to be run, looked at once a minute, and likewise `retrying`: those that failed and
    waited for another try, `oldest_pending`: how long the one that was next had waited, `incidents`: destinations that
    were down, and `storage_bytes`; the last two are null for a flow. `latency`: from the acceptance to the end, waits
    included. `wait`: from the acceptance to the first assignment to a runner. `p50` is exceeded by half of them, `p99`
    by one in a hundred; both are exact to 7 %.
    """

    time_ms: int
    accepted: int = 0
    completed: int = 0
    faulted: int = 0
    cancelled: int = 0
    pending: int = 0
    retrying: int = 0
    oldest_pending: float = 0.0
    incidents: int | None = None
    storage_bytes: int | None = None
    latency_p50: float | None = None
    latency_p99: float | None = None
    wait_p50: float | None = None
    wait_p99: float | None = None
    at = time_of("time_ms")

    @property
    def ended(self) -> int:
        return self.completed + self.faulted + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Numbers over a period: `points` by time, the last one under way; `total` of all, `before` of the period before.

    `since`: the beginning of what is known, which may be later than that of the period before. `step`: seconds of a
    point. `counted_together`: the flow has no series of its own; what it did is part of the flow `_other`.
    """

    since_ms: int
    step: float
    counted_together: bool
    points: tuple[OverviewPoint, ...]
    total: OverviewPoint
    before: OverviewPoint
    since = time_of("since_ms")
