"""What is shown of a flow's numbers."""

from __future__ import annotations

from datetime import UTC, datetime

from flowhook.model import Flow
from flowhook.model.flows import FlowStatistics, NamedSecret
from operations.flows import numbers

SINCE = datetime(2024, 1, 1, tzinfo=UTC)
ZEROS = (0,) * 60


def shown(**fields):
    defaults = {
        "flow": Flow("a", b"", b"", 1, False, True, 0, 0),
        "accepted": ZEROS,
        "completed": ZEROS,
        "faulted": ZEROS,
        "pending": 0,
        "running": 0,
        "waiting": 0,
        "suspended": 0,
        "oldest_pending_time_ms": None,
        "last_event_time_ms": None,
        "secrets": (),
    }
    return numbers(FlowStatistics(**(defaults | fields)), SINCE)


def test_the_rate_is_that_of_the_last_five_minutes():
    assert shown(accepted=(*([100] * 55), 1, 2, 3, 4, 5)).per_minute == 3.0
    assert shown(accepted=(*([100] * 55), 0, 0, 0, 0, 1)).per_minute == 0.2
    assert shown(accepted=(*([100] * 55), 0, 0, 0, 0, 0)).per_minute == 0


def test_the_share_of_errors_is_that_of_what_ended_in_the_last_hour():
    assert shown().error_share is None
    assert shown(accepted=(9,) * 60).error_share is None
    assert shown(completed=(*ZEROS[1:], 3), faulted=(1, *ZEROS[1:])).error_share == 0.25
    assert shown(faulted=(1, *ZEROS[1:])).error_share == 1


def test_missing_secrets_are_named_and_a_time_is_a_time():
    secrets = (NamedSecret("a", True, True, False), NamedSecret("b", False, True, True, 1_704_067_200_000, True))
    view = shown(secrets=secrets, last_event_time_ms=1_704_067_200_000)
    assert view.missing_secrets == ("a",)
    assert [secret.matched_at for secret in view.secrets] == [None, SINCE]
    assert view.last_event_at == SINCE
