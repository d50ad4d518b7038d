"""How far two clocks are apart, as one process can measure it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowhook.reporting.process_reports import clock_skew

SECONDS = st.floats(0, 10)


@given(skew=st.floats(-1e6, 1e6), there=SECONDS, back=SECONDS)
def test_it_is_never_more_than_the_real_difference_and_less_by_no_more_than_the_round_trip(skew, there, back):
    asked = 1_700_000_000.0
    router = asked - skew + there
    measured = clock_skew(asked, asked + there + back, int(router * 1000))
    assert abs(measured) <= abs(skew) + 0.002
    assert abs(measured) >= abs(skew) - (there + back) - 0.002
    assert measured * skew >= 0 or abs(measured) < 0.002
