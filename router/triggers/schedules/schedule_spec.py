"""Computes the due times of a flow from its `schedule`.

Source: dsl-reference.md, "Schedule".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowhook.cron import next_cron
from flowhook.document.duration import parse_duration


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
        """See `CronSpec`."""
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
        """See `CronSpec`."""
        return min(due_ms, now_ms + self.delay_ms)


ScheduleSpec = CronSpec | EverySpec | AfterSpec
"""A parsed schedule; equal values are the same schedule, however it is written."""


def parse_schedule(schedule: Mapping[str, Any]) -> ScheduleSpec | None:
    """Parse a flow's `schedule`, as written in its definition; None when the flow is not started by time.

    Raises:
        InvalidError: a duration is invalid (`DURATION_INVALID`).
    """
    if "cron" in schedule:
        return CronSpec(schedule["cron"], schedule.get("timezone", "UTC"))
    if "every" in schedule:
        return EverySpec(_milliseconds(schedule["every"]))
    if "after" in schedule:
        return AfterSpec(_milliseconds(schedule["after"]))
    return None


def _milliseconds(duration: object) -> int:
    return max(1, round(parse_duration(duration) * 1000))
