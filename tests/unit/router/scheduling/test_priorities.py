"""Priorities: of a flow's executions among each other, and of a flow among others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.events.keys import ShapingKeys
from router.scheduling.lines import WaitingLine
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import RatePolicy
from router.scheduling.shard import Shard

BY_PRIORITY = FlowPolicy(by_priority=True)


@pytest.fixture
def shard():
    shard = Shard(epoch=1, lease_seconds=1000, max_attempts=3, reattach_seconds=2)
    shard.queues.rates.begin(0.0)
    shard.runners.attach("r", 0.0)
    return shard


def accept(shard, flow, *priorities, first=1):
    for seq, priority in enumerate(priorities, first):
        shard.accept(seq, flow, "", ShapingKeys(priority=priority) if priority else None)


def assigned(shard, credit=1000, now=0.0):
    shard.runners.add_credit("r", credit)
    granted = []
    while found := shard.assign(now=now):
        granted += [each.seq for each in found]
    return granted


def test_executions_of_a_higher_priority_run_first_else_in_order_of_arrival(shard):
    shard.queues.set_policy("a", BY_PRIORITY)
    accept(shard, "a", 0, 5, 0, 9, 5)
    assert assigned(shard) == [4, 2, 5, 1, 3]


def test_one_that_comes_back_is_the_first_of_its_priority(shard):
    shard.queues.set_policy("a", FlowPolicy(by_priority=True, concurrency=1))
    accept(shard, "a", 3, 3, 5)
    (granted,) = (shard.runners.add_credit("r", 1), shard.assign())[1]
    shard.park(granted.token)
    shard.parked(3, 1000)
    accept(shard, "a", 9, first=4)
    shard.wake(1000)
    assert assigned(shard, 1) == [4]


def test_a_line_of_a_rate_and_that_of_a_key_are_in_the_same_order(shard):
    shard.queues.set_policy("a", FlowPolicy(by_priority=True, rate=RatePolicy(1, 10.0), key_concurrency=1))
    for seq, priority in enumerate((0, 0, 7, 0, 9), 1):
        shard.accept(seq, "a", "", ShapingKeys(concurrency="x" if seq > 2 else "", priority=priority))
    order = [assigned(shard, now=100.0 + 10.5 * turn) for turn in range(3)]
    assert order == [[3], [1], [2]]
    assert shard.queues.places.positions([4, 5]) == {5: 1, 4: 2}


def test_a_priority_that_is_applied_counts_for_what_waits_already(shard):
    accept(shard, "a", 0, 5, 9)
    shard.queues.set_policy("a", BY_PRIORITY)
    assert assigned(shard, 1) == [3]
    shard.queues.set_policy("a", FlowPolicy())
    assert assigned(shard) == [1, 2]


def test_one_that_waits_by_its_priority_is_cancelled_like_any_other(shard):
    shard.queues.set_policy("a", BY_PRIORITY)
    accept(shard, "a", 0, 5, 9)
    assert shard.cancel(2, "a") is not None
    shard.ended(2)
    assert assigned(shard) == [3, 1]


def test_a_flow_of_a_higher_priority_has_more_of_each_turn_and_no_flow_starves(shard):
    shard.queues.set_policy("heavy", FlowPolicy(weight=4))
    for flow, first in (("heavy", 1), ("light", 101)):
        accept(shard, flow, *[0] * 100, first=first)
    accept(shard, "quiet", 0, first=201)
    turns = assigned(shard, 11)
    assert turns == [1, 2, 3, 4, 101, 201, 5, 6, 7, 8, 102]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=50), st.data())
def test_a_line_is_what_a_sorted_list_would_be(executions, data):
    keys = {seq: ShapingKeys(priority=priority) for seq, (priority, _) in enumerate(executions, 1) if priority}
    line, model = WaitingLine(keys), []
    for seq, (priority, first) in enumerate(executions, 1):
        (line.appendleft if first else line.append)(seq)
        model.append((-priority, -seq if first else seq, seq))
    model.sort()
    removed = data.draw(st.sets(st.sampled_from([each[-1] for each in model]))) if model else ()
    for seq in removed:
        line.remove(seq)
    expected = [seq for *_, seq in model if seq not in removed]
    assert (list(line), len(line), bool(line)) == (expected, len(expected), bool(expected))
    assert [line[0], *(line.popleft() for _ in expected)] == expected[:1] + expected if expected else not list(line)
    assert line._by_priority == {}
