import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.document.duration import parse_duration
from flowhook.errors import InvalidError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("PT5M", 300),
        ("PT30S", 30),
        ("PT0.5S", 0.5),
        ("PT24H", 86_400),
        ("P1D", 86_400),
        ("P2W", 1_209_600),
        ("P1DT12H30M15.25S", 131_415.25),
        ("PT0S", 0),
        ({"minutes": 5}, 300),
        ({"days": 1, "hours": 2, "minutes": 3, "seconds": 4, "milliseconds": 500}, 93_784.5),
    ],
)
def test_a_duration_is_a_number_of_seconds(value, seconds):
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5m", "'5m' is no duration; write it like PT30S"),
        ("P", "is no duration"),
        ("PT", "is no duration"),
        ("PT5", "is no duration"),
        ("-PT5M", "is no duration"),
        ("PT5M ", "is no duration"),
        ("PT1S1M", "is no duration"),
        ("", "is no duration"),
        ("P1M", "years and months have no fixed length"),
        ("P1Y", "years and months have no fixed length"),
        ("P99999D", "at most ten years"),
        ({}, "expected at least one of days"),
        ({"minute": 5}, "'minute' is no unit"),
        ({1: 5}, "'1' is no unit"),
        ({"minutes": -5}, "minutes must be an integer of at least 0"),
        ({"minutes": 0.5}, "minutes must be an integer"),
        ({"minutes": True}, "minutes must be an integer"),
        ({"minutes": "5"}, "minutes must be an integer"),
        ({"days": 10**30}, "not longer than ten years"),
        (300, "expected a duration such as PT5M"),
        (None, "expected a duration"),
        (["PT5M"], "expected a duration"),
    ],
)
def test_anything_else_is_refused(value, message):
    with pytest.raises(InvalidError, match=message) as caught:
        parse_duration(value)
    assert caught.value.reason == "DURATION_INVALID"


@given(hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_both_notations_mean_the_same(hours, minutes, seconds):
    assert parse_duration(f"PT{hours}H{minutes}M{seconds}S") == parse_duration(
        {"hours": hours, "minutes": minutes, "seconds": seconds}
    )
