"""What of a URL may be shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases
from yarl import URL

from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from runner.outbound.http_response import parse_retry_after, public_url, server_time, to_delay_ms


def test_a_url_is_shown_without_credentials_query_and_fragment():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f")) == "https://x.example:8443/a"


def test_the_url_of_a_flow_with_secrets_is_shown_without_its_path():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f"), hide_path=True) == "https://x.example:8443"


NOW = datetime(1994, 11, 6, 8, 48, 37, tzinfo=UTC)


@cases(
    ("value", "expected"),
    [
        (None, 0),
        ("0", 0),
        ("120", 120_000),
        (" 7 ", 7_000),
        ("3601", MAX_RETRY_AFTER_MS),
        ("9" * 60, MAX_RETRY_AFTER_MS),
        ("9" * 65, 0),
        ("-1", 0),
        ("1.5", 0),
        ("٣", 0),
        ("soon", 0),
        ("", 0),
        # the three forms of RFC 9110, section 5.6.7
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60_000),
        ("Sun Nov  6 08:49:37 1994", 60_000),
        ("Sun, 06 Nov 1994 08:48:36 GMT", 0),
        ("Tue, 06 Nov 2094 08:48:36 GMT", MAX_RETRY_AFTER_MS),
        ("Sun, 32 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_seconds_and_dates_are_understood_and_nothing_else_is(value, expected):
    assert parse_retry_after(value, NOW) == expected


@given(st.text() | st.from_regex(r"\w+, [0-9]+ \w+ [0-9]+ [0-9:]+ \S+", fullmatch=True))
def test_whatever_a_server_says_is_a_time_within_bounds(value):
    assert 0 <= parse_retry_after(value, NOW) <= MAX_RETRY_AFTER_MS


@pytest.mark.parametrize(("seconds", "expected"), [(-1.0, 0), (0.25, 250), (1e12, MAX_RETRY_AFTER_MS)])
def test_a_time_to_wait_has_bounds(seconds, expected):
    assert to_delay_ms(seconds) == expected


@pytest.mark.parametrize("date", ["Sun, 06 Nov 1994 08:48:37 GMT", " Sun Nov  6 08:48:37 1994 "])
def test_a_servers_time_is_what_it_says_and_not_that_of_this_machine(date):
    now = server_time(date, datetime(2026, 1, 1, tzinfo=UTC))
    assert now == NOW
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now) == 60_000


@pytest.mark.parametrize("date", [None, "", "soon", "Sun, 32 Nov 1994 08:49:37 GMT", "x" * 100])
def test_a_server_that_does_not_say_its_time_is_taken_to_have_this_one(date):
    assert server_time(date, NOW) == NOW
