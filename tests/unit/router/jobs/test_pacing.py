"""The pace of a job."""

from router.jobs.pacing import CATCH_UP_SECONDS, Pace


def test_actions_are_spread_evenly():
    pace = Pace(4)
    now = 100.0
    delays = []
    for _ in range(4):
        delays.append(pace.delay(now))
        now += delays[-1]
    assert delays == [0.0, 0.25, 0.25, 0.25]


def test_a_short_delay_is_caught_up_on_and_a_long_one_is_not():
    pace = Pace(8)
    pace.delay(0.0)
    assert [pace.delay(0.375) for _ in range(3)] == [0.0, 0.0, 0.0]
    pace.delay(100.0)
    immediate = 0
    while pace.delay(100.0) == 0:
        immediate += 1
    assert immediate <= CATCH_UP_SECONDS * 8 + 1
