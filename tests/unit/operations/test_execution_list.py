"""Times as operators write them."""

from datetime import UTC, datetime

import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from operations.execution_list import parse_time

NOW = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)


@cases(
    ("text", "expected"),
    [
        ("15m", "2026-11-27T15:45:00+00:00"),
        ("90s", "2026-11-27T15:58:30+00:00"),
        ("24h", "2026-11-26T16:00:00+00:00"),
        ("7d", "2026-11-20T16:00:00+00:00"),
        ("2026-11-27", "2026-11-27T00:00:00+00:00"),
        ("2026-11-27T15:30", "2026-11-27T15:30:00+00:00"),
        ("2026-11-27T15:30:01.5Z", "2026-11-27T15:30:01.500000+00:00"),
        ("2026-11-27T15:30+02:00", "2026-11-27T13:30:00+00:00"),
    ],
)
def test_a_time_is_given_or_how_long_ago_it_was(text, expected):
    assert parse_time(text, NOW).isoformat() == expected


@cases("text", ["", "yesterday", "15", "m", "-15m", "999999d", "2026-13-01", "15:30", "\u0661m"])
def test_what_is_none_is_refused(text):
    with pytest.raises(InvalidError, match="write a time such as"):
        parse_time(text, NOW)
