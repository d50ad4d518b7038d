"""Views of the attempts of an execution, for the console and the JSON API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowhook.model import to_datetime
from flowhook.model.executions import Attempt, AttemptEnd


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One runner working on an execution: an attempt that was interrupted, that ended it, or that is under way.

    `ended_at` and `end` are null while it is under way, `assigned_at` and `runner` where that is not known. `detail`
    is the reason that the runner gave, `reason` is both in words. An attempt that is not `charged` has the number of
    the next one.
    """

    number: int
    runner: str | None
    assigned_at: datetime | None
    ended_at: datetime | None
    end: AttemptEnd | None
    detail: str
    reason: str
    charged: bool


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return what is shown of an attempt."""
    return AttemptView(
        number=attempt.number,
        runner=attempt.runner or None,
        assigned_at=None if attempt.assign_time_ms is None else to_datetime(attempt.assign_time_ms),
        ended_at=None if attempt.end_time_ms is None else to_datetime(attempt.end_time_ms),
        end=attempt.end,
        detail=attempt.detail,
        reason=attempt.reason,
        charged=attempt.charged,
    )
