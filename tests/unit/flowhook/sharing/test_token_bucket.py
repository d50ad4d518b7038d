"""A bucket gives what it holds, and fills at its rate."""

from __future__ import annotations

from flowhook.sharing.token_bucket import TokenBucket


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(per_second=2, burst=3, now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.5) == 0
    assert bucket.take(10.5) == 0.5


def test_a_bucket_never_holds_more_than_its_burst():
    bucket = TokenBucket(per_second=100, burst=2, now=0.0)
    assert [bucket.take(1000.0) == 0 for _ in range(3)] == [True, True, False]


def test_a_refused_event_takes_nothing_from_the_bucket():
    bucket = TokenBucket(per_second=1, burst=1, now=0.0)
    bucket.take(0.0)
    for _ in range(100):
        assert bucket.take(0.5) == 0.5
    assert bucket.take(1.0) == 0
