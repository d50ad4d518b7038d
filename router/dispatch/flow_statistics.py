"""Counts the executions that each flow accepted, completed and faulted, in each minute of the last hour.

The counts are in memory. Those of the time before a start are added later (`restore`), so far as storage can answer
for them; until then, and for a flow that had to make room for others, they begin at `since_ms`.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from flowhook.errors import FlowhookError
from flowhook.model import Status
from flowhook.process import logs
from router.storage.activity import MinuteCount
from router.storage.model import LoggedEvent
from router.storage.shard_state import ShardState

MINUTE_MS: Final = 60_000
MINUTES: Final = 60  # for which a flow's executions are counted
# executions that are read after a start, newest first, for the counts of the hour before it
MAX_RESTORED: Final = 100_000
RESTORE_STEP: Final = 5000  # counts added between two turns of the event loop
MAX_FLOWS: Final = 20_000  # flows with counts, about 1 KiB each: beyond it, the flow that was first counted makes room


class FlowActivity(NamedTuple):
    """Numbers of a flow's executions by minute, oldest first: of the last `MINUTES`, the current one included."""

    accepted: tuple[int, ...] = (0,) * MINUTES
    completed: tuple[int, ...] = (0,) * MINUTES
    faulted: tuple[int, ...] = (0,) * MINUTES


IDLE: Final = FlowActivity()

log = logs.get_logger(__name__)


class _Counts:
    """Rings of one flow: the count of a minute is at its Unix time in minutes, modulo `MINUTES`."""

    __slots__ = ("accepted", "minute", "rings")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.accepted, completed, faulted = (array("I", (0,) * MINUTES) for _ in range(3))
        self.rings = {None: self.accepted, Status.COMPLETED: completed, Status.FAULTED: faulted}

    def advance(self, minute: int) -> None:
        """Begin a minute other than the latest one: empty what lies more than an hour before it."""
        if 0 < self.minute - minute < MINUTES:
            return  # the clock was set back a little: the latest minute takes longer
        gap = minute - self.minute
        for passed in range(minute - min(gap, MINUTES) + 1, minute + 1) if gap > 0 else range(MINUTES):
            for ring in self.rings.values():
                ring[passed % MINUTES] = 0
        self.minute = minute

    def add(self, minute: int, status: Status | None, number: int) -> None:
        """Add to a minute of the last hour, seen from the latest one."""
        if 0 <= self.minute - minute < MINUTES and status in self.rings:
            self.rings[status][minute % MINUTES] += number

    def activity(self) -> FlowActivity:
        first = (self.minute + 1) % MINUTES
        return FlowActivity(*(tuple(ring[first:] + ring[:first]) for ring in self.rings.values()))


class FlowStatisticsCounter:
    """The counts of all flows. Counting takes constant time."""

    def __init__(self, now_ms: int, *, max_flows: int = MAX_FLOWS) -> None:
        # Unix time from which everything is counted, at most an hour before now; it grows when flows make room
        self.since_ms = now_ms
        self._max_flows = max_flows
        self._flows: OrderedDict[str, _Counts] = OrderedDict()

    def accepted(self, events: Iterable[LoggedEvent], now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        place = minute % MINUTES
        flows = self._flows
        for _, event in events:
            counts = flows.get(event.flow_id)
            if counts is None or counts.minute != minute:
                counts = self._counts(event.flow_id, minute, now_ms)
                counts.accepted[counts.minute % MINUTES] += 1
            else:
                counts.accepted[place] += 1

    def ended(self, flow_id: str, status: Status, now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        counts = self._flows.get(flow_id)
        if counts is None or counts.minute != minute:
            counts = self._counts(flow_id, minute, now_ms)
        counts.add(counts.minute, status, 1)

    def forget(self, flow_id: str) -> None:
        self._flows.pop(flow_id, None)

    def restore(self, counts: Iterable[MinuteCount], now_ms: int) -> None:
        """Add what was counted of the time before the start; `since_ms` is the caller's to change."""
        minute = now_ms // MINUTE_MS
        for flow_id, at, status, number in counts:
            self._counts(flow_id, minute, now_ms).add(at, status, number)

    def of(self, flow_id: str, now_ms: int) -> FlowActivity:
        counts = self._flows.get(flow_id)
        if counts is None:
            return IDLE
        if counts.minute != now_ms // MINUTE_MS:
            counts.advance(now_ms // MINUTE_MS)
        return counts.activity()

    def _counts(self, flow_id: str, minute: int, now_ms: int) -> _Counts:
        counts = self._flows.get(flow_id)
        if counts is None:
            if len(self._flows) >= self._max_flows:
                _, removed = self._flows.popitem(last=False)
                if removed.minute > minute - MINUTES:
                    self.since_ms = now_ms
            counts = self._flows[flow_id] = _Counts(minute)
        elif counts.minute != minute:
            counts.advance(minute)
        return counts


async def restore_history(
    statistics: FlowStatisticsCounter, state: ShardState, *, until_seq: int, now_ms: Callable[[], int]
) -> None:
    """Add the counts of the hour before the start, so far as `MAX_RESTORED` executions contain them.

    `until_seq` is the last execution that was accepted before the start.
    """
    started_ms = statistics.since_ms
    try:
        recent = await state.recent_activity(
            since_ms=started_ms - MINUTES * MINUTE_MS,
            until_seq=until_seq,
            ended_before_ms=started_ms,
            limit=MAX_RESTORED,
        )
    except FlowhookError as error:
        log.debug("statistics begin with the start", reason=error.reason)
        return
    for start in range(0, len(recent.counts), RESTORE_STEP):
        statistics.restore(recent.counts[start : start + RESTORE_STEP], now_ms())
        await asyncio.sleep(0)
    if statistics.since_ms == started_ms:
        statistics.since_ms = recent.since_ms
