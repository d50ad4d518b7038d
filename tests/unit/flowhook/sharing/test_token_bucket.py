"""A bucket gives what it holds, and fills at its rate."""

from __future__ import annotations

from flowhook.sharing.token_bucket import TokenBucket, TokenBuckets


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


def buckets(most=100):
    return TokenBuckets(per_second=1, burst=2, most=most)


def test_one_sender_takes_nothing_from_another():
    senders = buckets()
    assert [senders.take("a", 0.0) for _ in range(3)] == [0, 0, 1]
    assert [senders.take("b", 0.0) for _ in range(3)] == [0, 0, 1]
    assert senders.take("a", 1.0) == 0


def test_whoever_sends_on_is_not_forgotten():
    senders = buckets(most=3)
    for number in range(10):
        senders.take("busy", 0.0)
        senders.take(f"other-{number}", 0.0)
    assert senders.take("busy", 0.0) == 1
    assert senders.take("other-0", 0.0) == 0


def test_what_is_given_back_can_be_taken_again_and_of_another_changes_nothing():
    senders = buckets()
    assert [senders.take("a", 0.0) for _ in range(2)] == [0, 0]
    senders.give_back("a")
    assert [senders.take("a", 0.0) for _ in range(2)] == [0, 1]
    senders.give_back("b")
    assert senders.take("a", 0.0) == 1
