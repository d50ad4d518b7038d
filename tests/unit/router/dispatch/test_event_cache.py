"""Payloads of recently accepted events, bounded by bytes."""

from __future__ import annotations

from hypothesis import given, strategies

from router.dispatch.parts import CachedEvent, EventCache


def test_a_payload_is_given_out_once():
    cache = EventCache()
    cache.put(1, CachedEvent(7, b"abc"))
    assert cache.pop(1) == CachedEvent(7, b"abc")
    assert cache.pop(1) is None
    assert cache.bytes == 0


def test_what_does_not_fit_is_not_retained_and_drives_nothing_out():
    cache = EventCache(max_bytes=5)
    cache.put(1, CachedEvent(1, b"abc"))
    cache.put(2, CachedEvent(1, b"abc"))
    assert cache.pop(2) is None
    assert cache.pop(1) == CachedEvent(1, b"abc")
    cache.put(3, CachedEvent(1, b"abcde"))
    assert cache.bytes == 5


@given(strategies.lists(strategies.tuples(strategies.integers(0, 9), strategies.integers(0, 4)), max_size=50))
def test_its_bytes_are_those_of_what_it_holds_and_never_too_many(steps):
    cache, held = EventCache(max_bytes=10), {}
    for seq, size in steps:
        if seq in held:
            assert cache.pop(seq) == held.pop(seq)
        else:
            payload = CachedEvent(1, b"x" * size)
            fits = cache.bytes + size <= 10
            cache.put(seq, payload)
            if fits:
                held[seq] = payload
        assert cache.bytes == sum(len(payload.payload) for payload in held.values()) <= 10
