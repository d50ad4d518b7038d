"""Flows that are started by time (`schedule`): when each is due, and the queue of all of them.

No I/O. A flow has at most one due time. The next one is computed when the caller reports the start. `unsaved` returns
the changes to persist. A flow whose start was not persisted before a restart is due at the same time again, so that an
execution ID derived from flow and time starts it once.

Source: dsl-reference.md, "Schedule".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flowhook.cron import next_cron
from flowhook.document.quantities import parse_duration
from router.storage.model import Scheduled

SET_BACK_MS: Final = 1000  # milliseconds; a clock set back by less than this is taken as adjusted, and due times stay
# stale entries tolerated in the heap before it is rebuilt, besides as many as there are valid ones
MIN_STALE: Final = 1024


@dataclass(frozen=True, slots=True)
class CronSpec:
    """Runs at the times of a cron expression in a time zone, regardless of earlier runs."""

    expression: str
    timezone: str = "UTC"

    def first(self, since_ms: int) -> int:
        """Return the first due time of a flow that has this schedule from `since_ms` on."""
        return next_cron(self.expression, since_ms, self.timezone)

    def following(self, due_ms: int, now_ms: int) -> int:
        """Return the due time after `due_ms`, later than now: one run makes up for all missed ones."""
        return next_cron(self.expression, max(due_ms, now_ms), self.timezone)

    def corrected(self, due_ms: int, now_ms: int) -> int:
        """Return the due time, corrected if the clock was set back after `due_ms` was computed."""
        return due_ms if due_ms <= now_ms else next_cron(self.expression, now_ms, self.timezone)


@dataclass(frozen=True, slots=True)
class EverySpec:
    """Runs periodically, `period_ms` apart, regardless of earlier runs."""

    period_ms: int

    def first(self, since_ms: int) -> int:
        return since_ms + self.period_ms

    def following(self, due_ms: int, now_ms: int) -> int:
        """See `CronSpec`. A run that makes up for missed ones does not shift later due times."""
        missed = max(0, now_ms - due_ms) // self.period_ms
        return due_ms + (missed + 1) * self.period_ms

    def corrected(self, due_ms: int, now_ms: int) -> int:
        """See `CronSpec`. The due time is at most two periods ahead.

        Two runs with the same due time are started once. After the clock was set back, the new due times therefore
        differ from the old ones.
        """
        if due_ms - now_ms <= 2 * self.period_ms:
            return due_ms
        corrected = now_ms + self.period_ms
        return corrected + 1 if (due_ms - corrected) % self.period_ms == 0 else corrected


@dataclass(frozen=True, slots=True)
class AfterSpec:
    """Runs `delay_ms` after the end of the previous run; the first run is `delay_ms` after the schedule was created."""

    delay_ms: int

    def first(self, since_ms: int) -> int:
        """See `CronSpec`. `since_ms` is the end of a run, or the creation of the schedule."""
        return since_ms + self.delay_ms

    def following(self, due_ms: int, now_ms: int) -> int:
        """See `CronSpec`. Applies to a skipped run; after the end of any other run `first` gives the next due time."""
        return max(due_ms, now_ms) + self.delay_ms

    def corrected(self, due_ms: int, now_ms: int) -> int:
        return min(due_ms, now_ms + self.delay_ms)


# a parsed schedule; equal values are the same schedule, however it is written
ScheduleSpec = CronSpec | EverySpec | AfterSpec


def parse_schedule(schedule: Mapping[str, Any]) -> ScheduleSpec | None:
    """Parse a flow's `schedule`, as written in its definition; None when the flow is not started by time."""
    if "cron" in schedule:
        return CronSpec(schedule["cron"], schedule.get("timezone", "UTC"))
    if "every" in schedule:
        return EverySpec(milliseconds(schedule["every"]))
    if "after" in schedule:
        return AfterSpec(milliseconds(schedule["after"]))
    return None


def milliseconds(duration: object) -> int:
    return max(1, round(parse_duration(duration) * 1000))


class DueRun(NamedTuple):
    """A flow that is due, and its due time."""

    flow_id: str
    due_ms: int


@dataclass(slots=True)
class _Entry:
    timetable: ScheduleSpec
    due_ms: int | None  # none: not due before the end of the run that was due at `last_ms`
    last_ms: int


class ScheduleQueue:
    """Queue of scheduled flows. Methods take logarithmic time; `look` linear time after the clock was set back."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[int, str]] = []
        self._unsaved: dict[str, Scheduled] = {}
        self._looked_ms = 0

    def __len__(self) -> int:
        return len(self._entries)

    # --- flows ------------------------------------------------------------------------------------------------------

    def put(self, flow_id: str, timetable: ScheduleSpec, since_ms: int) -> None:
        """Add a flow, or replace its schedule; no-op when it has the same one already.

        `since_ms` is the time from which the flow has this schedule.
        """
        entry = self._entries.get(flow_id)
        if entry is None:
            self._set(flow_id, _Entry(timetable, timetable.first(since_ms), 0))
        elif entry.timetable != timetable:
            entry.timetable = timetable
            if entry.due_ms is not None or not isinstance(timetable, AfterSpec):
                entry.due_ms = timetable.first(since_ms)
            self._set(flow_id, entry)

    def recover(self, timetable: ScheduleSpec, stored: Scheduled, *, since_ms: int, now_ms: int) -> bool:
        """Add a flow with its stored state; return whether a run of it may be under way (see `ended`).

        `since_ms` is the time from which the flow has this schedule.
        """
        flow_id, due_ms, last_ms = stored
        under_way = due_ms is None and last_ms > 0 and isinstance(timetable, AfterSpec)
        if due_ms is not None:
            due_ms = timetable.corrected(due_ms, now_ms)
        elif not under_way:
            due_ms = timetable.first(since_ms)
        self._set(flow_id, _Entry(timetable, due_ms, last_ms))
        if (due_ms, last_ms) == stored[1:]:
            del self._unsaved[flow_id]
        return under_way

    def remove(self, flow_id: str) -> None:
        entry = self._entries.pop(flow_id, None)
        if entry is not None:
            self.forget(flow_id)

    def forget(self, flow_id: str) -> None:
        """Mark a flow that is not in the queue as not scheduled, to be persisted."""
        self._unsaved[flow_id] = Scheduled(flow_id, None)

    # --- time -------------------------------------------------------------------------------------------------------

    def look(self, now_ms: int) -> None:
        if now_ms < self._looked_ms - SET_BACK_MS:
            for flow_id, entry in self._entries.items():
                corrected = None if entry.due_ms is None else entry.timetable.corrected(entry.due_ms, now_ms)
                if corrected != entry.due_ms:
                    entry.due_ms = corrected
                    self._set(flow_id, entry)
        self._looked_ms = now_ms

    def next(self) -> int | None:
        heap = self._heap
        while heap:
            if self._is_due(DueRun(heap[0][1], heap[0][0])):
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def next_of(self, flow_id: str) -> int | None:
        entry = self._entries.get(flow_id)
        return None if entry is None else entry.due_ms

    def due(self, now_ms: int, limit: int) -> list[DueRun]:
        """Remove and return flows that are due by now, at most `limit`, earliest first.

        The caller reports each of them as `started` or `skipped`, or requeues it with `again`.
        """
        runs: list[DueRun] = []
        while len(runs) < limit:
            earliest = self.next()
            if earliest is None or earliest > now_ms:
                break
            due_ms, flow_id = heapq.heappop(self._heap)
            runs.append(DueRun(flow_id, due_ms))
        return runs

    def again(self, run: DueRun) -> None:
        """Requeue a flow that could not be started, unless its due time has changed meanwhile."""
        if self._is_due(run):
            heapq.heappush(self._heap, (run.due_ms, run.flow_id))

    def started(self, run: DueRun, at_ms: int) -> bool:
        """Record that a flow was started; return whether its next due time depends on the end of that run.

        It was started now, or earlier if the start was not persisted; the run makes up for all due times missed till
        then.
        """
        if not self._is_due(run):
            return False
        entry = self._entries[run.flow_id]
        waits = isinstance(entry.timetable, AfterSpec)
        entry.due_ms = None if waits else entry.timetable.following(run.due_ms, at_ms)
        entry.last_ms = run.due_ms
        self._set(run.flow_id, entry)
        return waits

    def skipped(self, run: DueRun, now_ms: int) -> None:
        """Skip a due run: the flow is due at its next time."""
        if self._is_due(run):
            entry = self._entries[run.flow_id]
            entry.due_ms = entry.timetable.following(run.due_ms, now_ms)
            self._set(run.flow_id, entry)

    def ended(self, run: DueRun, at_ms: int) -> None:
        """Record the end of a run; no-op unless the flow's next due time depends on it."""
        entry = self._entries.get(run.flow_id)
        if entry is not None and entry.due_ms is None and entry.last_ms == run.due_ms:
            entry.due_ms = entry.timetable.first(at_ms)
            self._set(run.flow_id, entry)

    # --- storage ----------------------------------------------------------------------------------------------------

    def unsaved(self) -> list[Scheduled]:
        return list(self._unsaved.values())

    def saved(self, changes: Iterable[Scheduled]) -> None:
        for change in changes:
            if self._unsaved.get(change.flow_id) == change:
                del self._unsaved[change.flow_id]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _is_due(self, run: DueRun) -> bool:
        entry = self._entries.get(run.flow_id)
        return entry is not None and entry.due_ms == run.due_ms

    def _set(self, flow_id: str, entry: _Entry) -> None:
        self._entries[flow_id] = entry
        self._unsaved[flow_id] = Scheduled(flow_id, entry.due_ms, entry.last_ms)
        if entry.due_ms is not None:
            heapq.heappush(self._heap, (entry.due_ms, flow_id))
        if len(self._heap) > MIN_STALE + 2 * len(self._entries):
            self._heap = [(each.due_ms, key) for key, each in self._entries.items() if each.due_ms is not None]
            heapq.heapify(self._heap)
