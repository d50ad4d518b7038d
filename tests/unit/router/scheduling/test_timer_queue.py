"""Waiting executions and their wake times."""

from __future__ import annotations

import random

import pytest

from router.scheduling.queues import MIN_STALE, FlowQueue, TimerQueue

QUEUE = FlowQueue("a")


@pytest.fixture
def waits():
    return TimerQueue()


def due(waits, now_ms, limit=1000):
    return [seq for seq, _ in waits.due(now_ms, limit)]


def test_the_earliest_come_first_and_only_when_it_is_time(waits):
    times = list(range(100, 200))
    random.Random(7).shuffle(times)
    for at in times:
        waits.add(at, QUEUE, at)
    assert waits.next() == 100
    assert due(waits, 99) == []
    assert due(waits, 120) == list(range(100, 121))
    assert due(waits, 1000, limit=3) == [121, 122, 123]
    assert (waits.next(), len(waits)) == (124, 76)


def test_one_without_a_time_waits_until_it_is_taken_out(waits):
    waits.add(1, QUEUE, None)
    assert (waits.next(), due(waits, 1 << 60), 1 in waits) == (None, [], True)
    assert waits.pop(1) is QUEUE
    assert waits.pop(1) is None


def test_one_that_was_taken_out_is_not_woken_and_one_that_waits_again_only_at_its_new_time(waits):
    waits.add(1, QUEUE, 10)
    waits.add(2, QUEUE, 10)
    waits.pop(1)
    waits.pop(2)
    waits.add(2, QUEUE, 10)
    waits.add(3, QUEUE, 5)
    waits.pop(3)
    waits.add(3, QUEUE, 20)
    assert waits.next() == 10
    assert due(waits, 10) == [2]
    assert due(waits, 30) == [3]


def test_memory_is_bounded_by_what_waits_however_often_that_is_taken_out(waits):
    for number in range(50_000):
        waits.add(number % 100, QUEUE, 1_000_000 + number)
        if number >= 100:
            waits.pop(number % 100)
            waits.add(number % 100, QUEUE, 1_000_000 - number)
        assert len(waits._heap) <= MIN_STALE + 3 * 101
    assert len(due(waits, 2_000_000)) == 100
