"""Counts what executions of each flow, and of all, did. This is the one count: everybody else reads it.

Where events are accepted and executions begin and end, one object for each flow counts. `fold` adds what these have
counted to what readers see: the counts of the busiest flows since the start, for metrics, and those of all flows in the
current minute. When a minute is over, it is stored as series by `router.flows.series_keeper`, and enters the flows'
last hour.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from flowhook.model import Status
from flowhook.model.overview import MINUTE_MS
from flowhook.process.busiest import Busiest
from flowhook.process.metric_table import OTHER
from router.storage.model import LoggedEvent
from router.storage.series import ALL, BOUNDS, Counted, Durations, SeriesMark

MINUTES: Final = 60  # for which a flow's executions are counted
# flows that are counted in one minute, and that have a last hour, about 1 KiB each: those beyond are counted together,
# and the flow that was first counted loses its last hour
MAX_FLOWS: Final = 20_000
STEP: Final = 500  # flows that are looked at between two turns of the event loop
MAX_TIMES: Final = 4096  # times of acceptance that are kept
PRECISION: Final = 0.01  # distance between two of them, as a share of their age
TIMES_SECONDS: Final = 0.001  # between two of them, at the least


class AcceptanceTimes:
    """When executions were accepted, by number, from a bounded number of samples: the numbers ascend with time.

    The time of those before the last ones is known less precisely, to some per cent of their age.
    """

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._times: list[float] = []

    def add(self, seq: int, now: float) -> None:
        """Note that an execution is accepted now; `now` is monotonic, in seconds."""
        times = self._times
        if times and now - times[-1] < TIMES_SECONDS:
            return
        self._seqs.append(seq)
        times.append(now)
        if len(times) > MAX_TIMES:
            self._thin(now)

    def _thin(self, now: float) -> None:
        """Leave samples whose distances are a share of their age: some 2,000 for a month."""
        kept: list[tuple[int, float]] = []
        later = now
        for seq, at in zip(reversed(self._seqs), reversed(self._times), strict=True):
            if later - at >= PRECISION * (now - at):
                kept.append((seq, at))
                later = at
        first = self._seqs[0], self._times[0]
        kept += [first] if kept[-1] != first else []
        self._seqs = [seq for seq, _ in reversed(kept)]
        self._times = [at for _, at in reversed(kept)]

    def of(self, seq: int) -> float | None:
        """Return when an execution was accepted; None: before all that are known."""
        place = bisect_right(self._seqs, seq)
        return self._times[place - 1] if place else None


class FlowCounts:
    """What was counted of a flow since the start, or since it is counted apart."""

    __slots__ = ("counted", "duplicates", "rejected")

    def __init__(self) -> None:
        self.counted = Counted()
        self.duplicates = 0
        self.rejected: Counter[str] = Counter()  # by reason

    def total(self) -> int:
        return self.counted.total() + self.duplicates + self.rejected.total()


class FlowActivity(NamedTuple):
    """Numbers of a flow's executions by minute, oldest first: of the last `MINUTES`, the current one included."""

    accepted: tuple[int, ...] = (0,) * MINUTES
    completed: tuple[int, ...] = (0,) * MINUTES
    faulted: tuple[int, ...] = (0,) * MINUTES


IDLE: Final = FlowActivity()


class CountedMinute(NamedTuple):
    """What was counted in a minute, or in a part of it, and up to where everything is counted by then."""

    minute: int  # Unix time in minutes
    flows: dict[str, Counted]  # `ALL` among them
    mark: SeriesMark


class _Hour:
    """Rings of one flow: what is of a minute is at its Unix time in minutes, modulo `MINUTES`; first that time."""

    __slots__ = ("rings",)

    def __init__(self) -> None:
        self.rings = [array("I", (0,) * MINUTES) for _ in range(4)]

    def add(self, minute: int, counted: Counted) -> None:
        minutes, *rings = self.rings
        place = minute % MINUTES
        for ring, number in zip(rings, _shown(counted), strict=True):
            ring[place] = number + (ring[place] if minutes[place] == minute else 0)
        minutes[place] = minute

    def numbers(self, last: int) -> Iterator[list[int]]:
        """Yield the counts of each ring in the hour that ends with a minute, oldest first."""
        minutes, *rings = self.rings
        places = [(each, each % MINUTES) for each in range(last - MINUTES + 1, last + 1)]
        for ring in rings:
            yield [ring[place] if minutes[place] == minute else 0 for minute, place in places]


def _shown(counted: Counted) -> tuple[int, int, int]:
    return counted.accepted, counted.completed, counted.faulted


class FlowStatisticsCounter:
    """The counts of all flows. Counting takes constant time.

    While the clock is set back by less than an hour, the latest minute goes on; set back further, it is believed.
    """

    def __init__(self, now_ms: int, *, max_flows: int = MAX_FLOWS) -> None:
        # Unix time from which the last hour is complete, at most an hour before now; it grows when flows make room
        self.since_ms = now_ms
        self.mark = SeriesMark(0, now_ms)
        self.times = AcceptanceTimes()
        self.busiest = Busiest(FlowCounts)  # call `fold` before they are read
        self._max_flows = max_flows
        self._minute = now_ms // MINUTE_MS
        self._unfolded: dict[str, Counted] = {}
        self._flows: dict[str, Counted] = {ALL: Counted()}
        self._over: list[CountedMinute] = []  # those that are not stored yet, oldest first
        self._hours: OrderedDict[str, _Hour] = OrderedDict()

    # --- counting ---------------------------------------------------------------------------------------------------

    def accepted(self, events: Sequence[LoggedEvent], now_ms: int, now: float) -> None:
        """Count executions that are stored; `now` is monotonic, in seconds."""
        if now_ms // MINUTE_MS != self._minute:
            self._turn(now_ms)
        self.times.add(events[0].seq, now)
        flows = self._unfolded
        for _, event in events:
            counted = flows.get(event.flow_id) or self._of(event.flow_id)
            counted.accepted += 1
            if event.dedupe_at_ms:  # no schedule, execution or operator started it
                counted.received += 1
                counted.received_at = now_ms / 1000
        self.mark = SeriesMark(events[-1].seq, self.mark.end_time_ms)

    def called_back(self, flow_id: str, now_ms: int) -> None:
        """Count an event that is stored for executions which wait for it."""
        counted = self._of(flow_id)
        counted.received += 1
        counted.received_at = now_ms / 1000

    def assigned(self, executions: Iterable[tuple[int, str]], now: float) -> None:
        """Count how long executions that begin waited for that, by their numbers, as far as that is known."""
        flows, accepted_at = self._unfolded, self.times.of
        for seq, flow_id in executions:
            accepted = accepted_at(seq)
            if accepted is not None:
                counted = flows.get(flow_id) or self._of(flow_id)
                counted.waited += _observe(counted.waits, now - accepted)

    def ended(self, ends: Sequence[tuple[int, str, Status]], now_ms: int, now: float) -> None:
        """Count executions that ended, by their numbers, and how long after their acceptance, if that is known."""
        if now_ms // MINUTE_MS != self._minute:
            self._turn(now_ms)
        flows, accepted_at = self._unfolded, self.times.of
        for seq, flow_id, status in ends:
            counted = flows.get(flow_id) or self._of(flow_id)
            if status is Status.COMPLETED:
                counted.completed += 1
            elif status is Status.FAULTED:
                counted.faulted += 1
            else:
                counted.cancelled += 1
            accepted = accepted_at(seq)
            if accepted is not None:
                counted.lasted += _observe(counted.latencies, now - accepted)

    def _of(self, flow_id: str) -> Counted:
        if len(self._unfolded) >= STEP:
            self.fold()
        return self._unfolded.setdefault(flow_id, Counted())

    def fold(self) -> None:
        """Add what was counted since the last call to what is read, in a millisecond at most."""
        flows = self._flows
        for flow_id, counted in self._unfolded.items():
            flows[ALL].add(counted)
            self.busiest.of(flow_id, counted.total()).counted.add(counted)
            known = flows.get(flow_id)
            if known is None and len(flows) > self._max_flows:
                known = flows.setdefault(OTHER, Counted())
            if known is None:
                flows[flow_id] = counted
            else:
                known.add(counted)
        self._unfolded.clear()

    def forget(self, flow_id: str) -> None:
        self._hours.pop(flow_id, None)
        for _, flows, _ in self._pending():  # of all flows together they still count
            if flow_id in flows:
                flows[flow_id] = Counted()
        self.busiest.forget(flow_id)

    def _turn(self, now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        if not 0 < self._minute - minute < MINUTES:
            self._close(minute * MINUTE_MS)
            self._minute = minute

    def _close(self, end_time_ms: int) -> None:
        self.fold()
        self.mark = SeriesMark(self.mark.seq, end_time_ms)
        if len(self._flows) > 1:
            self._over.append(CountedMinute(self._minute, self._flows, self.mark))
        self._flows = {ALL: Counted()}

    # --- what was counted -------------------------------------------------------------------------------------------

    def _pending(self) -> Iterator[CountedMinute]:
        self.fold()
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
                flow_id, counted = stored.flows.popitem()
                if flow_id not in (ALL, OTHER):
                    self.restore(flow_id, stored.minute, counted)
            await asyncio.sleep(0)
        self._over.remove(stored)

    def restore(self, flow_id: str, minute: int, counted: Counted) -> None:
        """Add to the last hour of a flow what was counted in a minute, and is stored."""
        hour = self._hours.get(flow_id)
        if hour is None:
            if len(self._hours) >= self._max_flows:
                _, removed = self._hours.popitem(last=False)
                if (latest := max(removed.rings[0])) > minute - MINUTES:
                    self.since_ms = max(self.since_ms, (latest + 1) * MINUTE_MS)
            hour = self._hours[flow_id] = _Hour()
        hour.add(minute, counted)

    def unstored(self, flow_id: str) -> list[tuple[int, Counted]]:
        """Return what was counted of a flow in minutes that are not stored yet, with these."""
        return [(minute, flows[flow_id]) for minute, flows, _ in self._pending() if flow_id in flows]

    def of(self, flow_id: str, now_ms: int) -> FlowActivity:
        """Return the last hour of a flow."""
        pending, hour = self.unstored(flow_id), self._hours.get(flow_id)
        if hour is None and not pending:
            return IDLE
        last = now_ms // MINUTE_MS
        last = self._minute if 0 < self._minute - last < MINUTES else last
        shown = [[0] * MINUTES for _ in range(3)] if hour is None else [*hour.numbers(last)]
        for minute, counted in pending:
            if 0 <= (place := MINUTES - 1 - last + minute) < MINUTES:
                for row, number in zip(shown, _shown(counted), strict=True):
                    row[place] += number
        return FlowActivity(*map(tuple, shown))


def _observe(durations: Durations, seconds: float) -> float:
    """Count a duration, and return it; one below 0, of a clock that was set, counts as 0."""
    seconds = max(seconds, 0.0)
    bucket = bisect_left(BOUNDS, seconds)
    durations[bucket] = durations.get(bucket, 0) + 1
    return seconds
