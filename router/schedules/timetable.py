"""When a flow is due next, by what its `schedule` says.

Source: dsl-reference.md, "Schedule".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowhook.cron import next_cron
from flowhook.document.duration import parse_duration


@dataclass(frozen=True, slots=True)
class Cron:
    """At the times of a cron expression, whatever became of earlier runs."""

    expression: str

    def first(self, since_ms: int) -> int:
        """Return when a flow is due that has this schedule since then."""
        return next_cron(self.expression, since_ms)

    def following(self, due_ms: int, now_ms: int) -> int:
        """Return when it is due after `due_ms`: later than now, so that of those missed one is made up."""
        return next_cron(self.expression, max(due_ms, now_ms))

    def corrected(self, due_ms: int, now_ms: int) -> int:
        """Return when it is due, now that the clock may have been set back since `due_ms` was found."""
        return due_ms if due_ms <= now_ms else next_cron(self.expression, now_ms)


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, `period_ms` apart, whatever became of earlier runs."""

    period_ms: int

    def first(self, since_ms: int) -> int:
        """See `Cron`."""
        return since_ms + self.period_ms

    def following(self, due_ms: int, now_ms: int) -> int:
        """See `Cron`. Those that are made up don't shift the later ones."""
        missed = max(0, now_ms - due_ms) // self.period_ms
        return due_ms + (missed + 1) * self.period_ms

    def corrected(self, due_ms: int, now_ms: int) -> int:
        """See `Cron`. Nobody waits longer than two periods.

        What is due at the same time twice, by a clock that was set back, runs once. So the new times are none of the
        old ones.
        """
        if due_ms - now_ms <= 2 * self.period_ms:
            return due_ms
        corrected = now_ms + self.period_ms
        return corrected + 1 if (due_ms - corrected) % self.period_ms == 0 else corrected


@dataclass(frozen=True, slots=True)
class After:
    """`delay_ms` after the end of the run before; the first run as long after the schedule was made."""

    delay_ms: int

    def first(self, since_ms: int) -> int:
        """See `Cron`. Since the end of a run, that is, or since there is the schedule."""
        return since_ms + self.delay_ms

    def following(self, due_ms: int, now_ms: int) -> int:
        """See `Cron`. For a run that was left out: others are followed by their `first` after their end."""
        return max(due_ms, now_ms) + self.delay_ms

    def corrected(self, due_ms: int, now_ms: int) -> int:
        """See `Cron`."""
        return min(due_ms, now_ms + self.delay_ms)


Timetable = Cron | Every | After
"""Equal ones are the same schedule, however they are written."""


def timetable_of(schedule: Mapping[str, Any]) -> Timetable | None:
    """Return the timetable of a flow's `schedule`, as written; None when it is started by events.

    Raises:
        InvalidError: a duration is none (`DURATION_INVALID`).
    """
    if "cron" in schedule:
        return Cron(schedule["cron"])
    if "every" in schedule:
        return Every(_milliseconds(schedule["every"]))
    if "after" in schedule:
        return After(_milliseconds(schedule["after"]))
    return None


def _milliseconds(duration: object) -> int:
    return max(1, round(parse_duration(duration) * 1000))
