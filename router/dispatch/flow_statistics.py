"""Counts what executions of each flow, and of all, did: in the current minute, and by minute of the last hour.

This is the one source of such numbers. When a minute is over, what was counted in it is stored as series by
`router.flows.series_keeper`, and enters the flows' last hour.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from flowhook.model import Status
from flowhook.model.overview import MINUTE_MS
from flowhook.process.metric_table import OTHER
from router.storage.model import LoggedEvent
from router.storage.series import ALL, Counted, Durations, SeriesMark, bucket_of

MINUTES: Final = 60  # for which a flow's executions are counted
# flows that are counted in one minute, and that have a last hour, about 1 KiB each: those beyond are counted together,
# and the flow that was first counted loses its last hour
MAX_FLOWS: Final = 20_000
STEP: Final = 500  # flows that are looked at between two turns of the event loop


class FlowActivity(NamedTuple):
    """Numbers of a flow's executions by minute, oldest first: of the last `MINUTES`, the current one included."""

    accepted: tuple[int, ...] = (0,) * MINUTES
    completed: tuple[int, ...] = (0,) * MINUTES
    faulted: tuple[int, ...] = (0,) * MINUTES


IDLE: Final = FlowActivity()


class Counts:
    """What was counted of a flow in a minute: see `Counted`."""

    __slots__ = ("accepted", "cancelled", "completed", "faulted", "latencies", "waits")

    def __init__(self) -> None:
        self.accepted = self.completed = self.faulted = self.cancelled = 0
        self.waits: Durations = {}
        self.latencies: Durations = {}

    def add(self, status: Status | None, number: int = 1) -> None:
        """Count executions that ended with a status; None: that were accepted."""
        if status is Status.COMPLETED:
            self.completed += number
        elif status is Status.FAULTED:
            self.faulted += number
        elif status is None:
            self.accepted += number
        else:
            self.cancelled += number

    def counted(self) -> Counted:
        return Counted(
            self.accepted,
            self.completed,
            self.faulted,
            self.cancelled,
            waits=dict(self.waits),
            latencies=dict(self.latencies),
        )


class CountedMinute(NamedTuple):
    """What was counted in a minute, or in a part of it, and up to where everything is counted by then."""

    minute: int  # Unix time in minutes
    flows: dict[str, Counts]  # `ALL` among them
    mark: SeriesMark


class _Hour:
    """Rings of one flow: the count of a minute is at its Unix time in minutes, modulo `MINUTES`."""

    __slots__ = ("minute", "rings")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.rings = [array("I", (0,) * MINUTES) for _ in range(3)]

    def add(self, minute: int, accepted: int, completed: int, faulted: int) -> None:
        gap = minute - self.minute
        # an hour later, or earlier, because the clock was set back, everything is of another time
        for passed in range(minute - min(gap, MINUTES) + 1, minute + 1) if gap > -MINUTES else range(MINUTES):
            for ring in self.rings:
                ring[passed % MINUTES] = 0
        if gap > 0 or gap <= -MINUTES:
            self.minute = minute
        for ring, number in zip(self.rings, (accepted, completed, faulted), strict=True):
            ring[minute % MINUTES] += number

    def numbers(self, last: int) -> Iterator[list[int]]:
        """Yield the counts of each ring in the hour that ends with a minute, oldest first."""
        minutes = range(last - MINUTES + 1, last + 1)
        for ring in self.rings:
            yield [ring[each % MINUTES] if 0 <= self.minute - each < MINUTES else 0 for each in minutes]


class FlowStatisticsCounter:
    """The counts of all flows. Counting takes constant time.

    While the clock is set back by less than an hour, the latest minute goes on; set back further, it is believed.
    """

    def __init__(self, now_ms: int, *, max_flows: int = MAX_FLOWS) -> None:
        # Unix time from which the last hour is complete, at most an hour before now; it grows when flows make room
        self.since_ms = now_ms
        self.mark = SeriesMark(0, now_ms)
        self._max_flows = max_flows
        self._minute = now_ms // MINUTE_MS
        self._all = Counts()
        self._flows: dict[str, Counts] = {ALL: self._all}
        self._over: list[CountedMinute] = []  # those that are not stored yet, oldest first
        self._hours: OrderedDict[str, _Hour] = OrderedDict()

    def accepted(self, events: Sequence[LoggedEvent], now_ms: int) -> None:
        if now_ms // MINUTE_MS != self._minute:
            self._turn(now_ms)
        flows = self._flows
        for _, event in events:
            (flows.get(event.flow_id) or self._counts(event.flow_id)).accepted += 1
        self._all.accepted += len(events)
        self.mark = SeriesMark(events[-1].seq, self.mark.end_time_ms)

    def assigned(self, flow_id: str, seconds: float) -> None:
        """Count how long an execution that begins waited for that."""
        bucket = bucket_of(int(seconds * 1000))
        for counts in (self._flows.get(flow_id) or self._counts(flow_id), self._all):
            counts.waits[bucket] = counts.waits.get(bucket, 0) + 1

    def ended(self, flow_id: str, status: Status, now_ms: int, seconds: float | None = None) -> None:
        """Count an execution that ended; `seconds`: how long after it was accepted, if that is known."""
        if now_ms // MINUTE_MS != self._minute:
            self._turn(now_ms)
        bucket = None if seconds is None else bucket_of(int(seconds * 1000))
        for counts in (self._flows.get(flow_id) or self._counts(flow_id), self._all):
            counts.add(status)
            if bucket is not None:
                counts.latencies[bucket] = counts.latencies.get(bucket, 0) + 1

    def forget(self, flow_id: str) -> None:
        self._hours.pop(flow_id, None)
        for _, flows, _ in self._pending():  # of all flows together they still count
            if flow_id in flows:
                flows[flow_id] = Counts()

    def _counts(self, flow_id: str) -> Counts:
        return self._flows.setdefault(flow_id if len(self._flows) <= self._max_flows else OTHER, Counts())

    def _turn(self, now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        if not 0 < self._minute - minute < MINUTES:
            self._close(minute * MINUTE_MS)
            self._minute = minute

    def _close(self, end_time_ms: int) -> None:
        self.mark = SeriesMark(self.mark.seq, end_time_ms)
        if len(self._flows) > 1:
            self._over.append(CountedMinute(self._minute, self._flows, self.mark))
        self._all = Counts()
        self._flows = {ALL: self._all}

    # --- what was counted -------------------------------------------------------------------------------------------

    def _pending(self) -> Iterator[CountedMinute]:
        yield from self._over
        yield CountedMinute(self._minute, self._flows, self.mark)

    def take(self, now_ms: int, *, unfinished: bool = False) -> CountedMinute | None:
        """Return the oldest minute that is over and not stored; `unfinished`: or else the current one, up to now."""
        if now_ms // MINUTE_MS != self._minute:
            self._turn(now_ms)
        if unfinished and not self._over:
            self._close(now_ms + 1)
        return self._over[0] if self._over else None

    async def remember(self, stored: CountedMinute) -> None:
        """Add the oldest minute, which is stored now, to the last hours of flows."""
        while stored.flows:
            for _ in range(min(STEP, len(stored.flows))):
                flow_id, counts = stored.flows.popitem()
                if flow_id not in (ALL, OTHER):
                    self.restore(flow_id, stored.minute, counts)
            await asyncio.sleep(0)
        self._over.remove(stored)

    def restore(self, flow_id: str, minute: int, counts: Counts | Counted) -> None:
        """Add to the last hour of a flow what was counted in a minute, and is stored."""
        hour = self._hours.get(flow_id)
        if hour is None:
            if len(self._hours) >= self._max_flows:
                _, removed = self._hours.popitem(last=False)
                if removed.minute > minute - MINUTES:
                    self.since_ms = max(self.since_ms, (removed.minute + 1) * MINUTE_MS)
            hour = self._hours[flow_id] = _Hour(minute)
        hour.add(minute, counts.accepted, counts.completed, counts.faulted)

    def unstored(self, flow_id: str) -> list[tuple[int, Counted]]:
        """Return what was counted of a flow in minutes that are not stored yet, with these."""
        return [(minute, flows[flow_id].counted()) for minute, flows, _ in self._pending() if flow_id in flows]

    def of(self, flow_id: str, now_ms: int) -> FlowActivity:
        """Return the last hour of a flow."""
        pending = [(minute, flows[flow_id]) for minute, flows, _ in self._pending() if flow_id in flows]
        hour = self._hours.get(flow_id)
        if hour is None and not pending:
            return IDLE
        last = now_ms // MINUTE_MS
        last = self._minute if 0 < self._minute - last < MINUTES else last
        numbers = [[0] * MINUTES] * 3 if hour is None else [*hour.numbers(last)]
        shown = [list(each) for each in numbers]
        for minute, counts in pending:
            if 0 <= (place := MINUTES - 1 - last + minute) < MINUTES:
                for row, number in zip(shown, (counts.accepted, counts.completed, counts.faulted), strict=True):
                    row[place] += number
        return FlowActivity(*map(tuple, shown))
