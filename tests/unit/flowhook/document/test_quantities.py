import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.document.quantities import guess_duration, parse_duration, parse_size
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
        ("soon", "'soon' is not a duration: write it like PT30S"),
        ("P", "is not a duration"),
        ("PT", "is not a duration"),
        ("PT5", "is not a duration"),
        ("-PT5M", "is not a duration"),
        ("PT5M ", "is not a duration"),
        ("PT1S1M", "is not a duration"),
        ("", "is not a duration"),
        ("P1M", "minutes follow a T: PT1M"),
        ("P1M", "years and months have no fixed length"),
        ("P1Y", "years and months have no fixed length"),
        ("P99999D", "at most ten years"),
        ({}, "expected at least one of days"),
        ({"minute": 5}, "'minute' is not a unit of a duration, did you mean 'minutes'"),
        ({"sec": 5}, "did you mean 'seconds'"),
        ({"weeks": 5}, "not a unit of a duration: use days"),
        ({1: 5}, "'1' is not a unit"),
        ({"minutes": -5}, "minutes must be an integer, at least 0"),
        ({"minutes": 0.5}, "minutes must be an integer.*: fractions are written like PT1.5S"),
        ({"minutes": True}, "minutes must be an integer"),
        ({"minutes": "5"}, "minutes must be an integer.*: leave out the quotes"),
        ({"days": 10**30}, "at most ten years"),
        (300, "the unit is missing: write PT300S for 300 seconds, or PT300M for 300 minutes"),
        (-1, "expected a duration such as PT5M"),
        (True, "expected a duration"),
        (None, "expected a duration"),
        (["PT5M"], "expected a duration"),
    ],
)
def test_anything_else_is_refused(value, message):
    with pytest.raises(InvalidError, match=message) as caught:
        parse_duration(value)
    assert caught.value.reason == "DURATION_INVALID"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("5 minutes", "PT5M"),
        ("5m", "PT5M"),
        ("1h30m", "PT1H30M"),
        ("1 day and 2 hours", "P1DT2H"),
        ("2 weeks, 1 day", "P2W1D"),
        ("500ms", "PT0.5S"),
        ("PT5m", "PT5M"),
        ("pt5m", "PT5M"),
        ("P1DT12h", "P1DT12H"),
        ("P1H", "PT1H"),
        ("T5M", "PT5M"),
        ("PT1D", "P1D"),
        ("PT1S1M", "PT1M1S"),
        ("00:05:00", "PT5M"),
        ("1:00:05", "PT1H5S"),
    ],
)
def test_a_duration_in_another_notation_is_refused_with_a_suggestion(text, meant):
    assert parse_duration(meant)
    with pytest.raises(InvalidError, match=f"^'{text}' is not a duration, did you mean {meant}\\?$"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "PT", "5 parsecs", "5m 6m", "1m 500ms", "0:00:00", "m5", "-5m", "5m-"])
def test_nothing_is_made_up_for_what_is_no_duration(text):
    assert guess_duration(text) == ""


@given(hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_both_notations_mean_the_same(hours, minutes, seconds):
    assert parse_duration(f"PT{hours}H{minutes}M{seconds}S") == parse_duration(
        {"hours": hours, "minutes": minutes, "seconds": seconds}
    )


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("7B", 7),
        ("1kB", 1000),
        ("1KB", 1000),
        ("512KiB", 524_288),
        ("10MiB", 10_485_760),
        ("10 MiB", 10_485_760),
        ("1MB", 1_000_000),
        ("1GiB", 1_073_741_824),
    ],
)
def test_a_size_is_a_number_of_bytes(value, size):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "10 ", "1.5MiB", "-1", "10mib", "10M", "MiB", "10  MiB", " 1", "1e3", -1, True, 1.5, None, [1]]
)
def test_anything_else_is_no_size(value):
    with pytest.raises(InvalidError, match="expected a size such as 10MiB") as caught:
        parse_size(value)
    assert caught.value.reason == "SIZE_INVALID"
