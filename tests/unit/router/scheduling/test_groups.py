"""Groups: which events are run, which are absorbed, and when; and which are batched together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import limits
from flowhook.events.keys import ShapingKeys
from router.scheduling import groups
from router.scheduling.groups import MAX_PERIODS, ClosedGroup, EventGroups, GroupId, GroupPolicy
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard

PERIOD = 1000
LATEST = FlowPolicy(group=GroupPolicy(PERIOD))
FIRST = FlowPolicy(group=GroupPolicy(PERIOD, first=True))


def new_shard(policy=LATEST):
    shard = Shard(epoch=1, lease_seconds=1000, max_attempts=3, reattach_seconds=2)
    shard.queues.rates.begin(0.0)
    if policy is not None:
        shard.queues.set_policy("a", policy)
    shard.runners.attach("r", 0.0)
    shard.runners.add_credit("r", 1000)
    return shard


@pytest.fixture
def shard():
    return new_shard()


def accept(shard, seq, key, now_ms, order_key=""):
    shard.accept(seq, "a", order_key, ShapingKeys(group=key) if key else None, now_ms=now_ms)


def decide(shard, now_ms):
    found = shard.close_groups(now_ms)
    for each in found:
        for seq in each.absorbed:
            shard.ended(seq)
        shard.goes_on(each.seq, each.flow_id)
    return found


def assigned(shard):
    return [each.seq for each in shard.assign()]


@pytest.mark.parametrize(("policy", "seq", "absorbed"), [(LATEST, 3, (1, 2)), (FIRST, 1, (2, 3))])
def test_of_events_that_follow_each_other_closely_one_runs(policy, seq, absorbed):
    shard = new_shard(policy)
    for number, at in enumerate((0, 900, 1800), 1):
        accept(shard, number, "x", at)
    assert (decide(shard, 2799), assigned(shard)) == ([], [])
    assert decide(shard, 2800) == [ClosedGroup("a", seq, absorbed)]
    assert assigned(shard) == [seq]
    assert shard.unfinished == 1
    assert shard.queues.keys[seq].group == ""


def test_keys_do_not_mix_and_events_without_one_run_at_once(shard):
    for number, key in enumerate(("x", "y", "", "x"), 1):
        accept(shard, number, key, 0)
    assert assigned(shard) == [3]
    assert sorted(decide(shard, PERIOD)) == [ClosedGroup("a", 2, ()), ClosedGroup("a", 4, (1,))]
    assert sorted(assigned(shard)) == [2, 4]


def test_events_that_never_cease_are_run_nevertheless(shard):
    now = 0
    for seq in range(1, 30):
        accept(shard, seq, "x", now)
        if decide(shard, now):
            break
        now += PERIOD // 2
    assert now <= MAX_PERIODS * PERIOD
    assert len(assigned(shard)) == 1


def test_a_group_has_a_greatest_size(shard, monkeypatch):
    monkeypatch.setattr(groups, "MAX_GROUP", 3)
    for seq in range(1, 6):
        accept(shard, seq, "x", 0)
    assert decide(shard, 0) == [ClosedGroup("a", 3, (1, 2))]
    assert decide(shard, PERIOD) == [ClosedGroup("a", 5, (4,))]


def test_one_that_is_cancelled_is_not_absorbed_and_absorbs_none(shard):
    for seq in (1, 2, 3):
        accept(shard, seq, "x", 0)
    assert shard.cancel(3, "a") is not None
    shard.ended(3)
    assert decide(shard, PERIOD) == [ClosedGroup("a", 2, (1,))]


def test_one_that_is_suspended_leaves_its_group_and_runs_by_itself_when_it_is_resumed(shard):
    for seq in (1, 2):
        accept(shard, seq, "x", 0)
    assert shard.suspend(2, "a") is not None
    assert decide(shard, PERIOD) == [ClosedGroup("a", 1, ())]
    assert shard.resume(2)
    assert sorted(assigned(shard)) == [1, 2]


def test_one_that_is_cancelled_while_its_group_is_being_stored_does_not_run(shard):
    for seq in (1, 2):
        accept(shard, seq, "x", 0)
    (group,) = shard.close_groups(PERIOD)
    assert shard.cancel(1, "a") is None, "it is about to end"
    assert shard.cancel(2, "a") is not None
    for seq in (1, 2):
        shard.ended(seq)
    shard.goes_on(group.seq, "a")
    assert (assigned(shard), shard.unfinished, shard.queues.keys) == ([], 0, {})


def test_what_goes_on_is_queued_by_its_order_key_then(shard):
    accept(shard, 1, "x", 0, "k")
    accept(shard, 2, "", 0, "k")
    assert assigned(shard) == [2]
    decide(shard, PERIOD)
    assert assigned(shard) == []
    token = shard.leases.of(2).token
    shard.end(token)
    shard.ended(2)
    assert assigned(shard) == [1]


def test_they_wait_for_their_time_also_after_a_restart():
    shard = new_shard(None)
    for seq, at in ((1, 0), (2, 500), (3, 10_000)):
        shard.recover(seq, "a", 0, keys=ShapingKeys(group="y" if seq == 3 else "x"), receive_ms=at)
    shard.queues.set_policy("a", LATEST)
    shard.begin(0.0)
    assert shard.next_wake() == 1000
    assert decide(shard, 5000) == [ClosedGroup("a", 2, (1,))]
    assert shard.groups.expected([2, 3]) == {3: (11_000, 1, 0)}


def test_after_a_restart_without_the_key_in_the_flow_all_run():
    shard = new_shard(None)
    for seq in (1, 2):
        shard.recover(seq, "a", 0, keys=ShapingKeys(group="x"), receive_ms=0)
    shard.begin(0.0)
    assert assigned(shard) == [1, 2]


def test_groups_whose_executions_were_all_cancelled_are_forgotten_some_at_a_time():
    groups = EventGroups()
    for seq in range(100):
        groups.add(seq, GroupId("a", str(seq), batches=False), GroupPolicy(PERIOD), 0)
        if seq < 95:
            groups.remove(seq)
    looks = []
    while groups.next() is not None:
        looks.append(groups.due(PERIOD, 10))
    assert len(looks) == 10  # each takes as long as ten groups do
    assert [each.seq for found in looks for each, _ in found] == [95, 96, 97, 98, 99]


@given(
    st.lists(
        st.tuples(st.sampled_from("xy"), st.integers(0, 3 * PERIOD), st.sampled_from(["accept", "remove", "wait"])),
        max_size=60,
    ),
    st.booleans(),
)
def test_each_event_is_run_or_absorbed_once(steps, first):
    groups, now, keys, out = EventGroups(), 0, {}, []
    last, removed = {}, set()
    for seq, (key, delay, step) in enumerate(steps, 1):
        now += delay
        if step == "accept":
            keys[seq], last[key] = key, now
            groups.add(seq, GroupId("a", key, batches=False), GroupPolicy(PERIOD, first), now, order_key=f"o{seq}")
        elif step == "remove" and keys:
            victim = min(keys)
            if groups.remove(victim) is not None:
                removed.add(victim)
        for each, order_key in groups.due(now, 1000):
            assert order_key == f"o{each.seq}"
            assert {keys[seq] for seq in each.absorbed} <= {keys[each.seq]}
            members = sorted((each.seq, *each.absorbed))
            assert each.seq == members[0 if first else -1]
            out.append(each)
    out += [each for each, _ in groups.due(now + MAX_PERIODS * PERIOD, 10_000)]
    handled = [seq for each in out for seq in (each.seq, *each.absorbed)]
    assert sorted(handled) == sorted(keys.keys() - removed)
    assert (len(groups), groups.next()) == (0, None)


def batches(size, period=PERIOD):
    return FlowPolicy(group=GroupPolicy(period, first=True, size=size))


def accept_for_batch(shard, seq, now_ms, size=1, key="x"):
    shard.accept(seq, "a", "", ShapingKeys(group=key, size=size), now_ms=now_ms)


def test_a_batch_is_over_a_period_after_its_first_event_whatever_follows():
    shard = new_shard(batches(100))
    for seq, at in ((1, 0), (2, 900), (3, 999)):
        accept_for_batch(shard, seq, at)
    assert shard.groups.expected([3]) == {3: (PERIOD, 3, 100)}
    assert decide(shard, PERIOD - 1) == []
    assert decide(shard, PERIOD) == [ClosedGroup("a", 1, (2, 3), batches=True)]
    assert assigned(shard) == [1]
    assert (shard.events_of(1), shard.events_of(9)) == (3, 1)


def test_an_event_that_comes_after_its_period_begins_another_batch_also_if_the_timer_is_late():
    shard = new_shard(batches(9))
    for seq, at in ((1, 0), (2, PERIOD), (3, PERIOD + 1), (4, PERIOD + 2)):
        accept_for_batch(shard, seq, at)
    assert decide(shard, PERIOD + 2) == [ClosedGroup("a", 1, (2,), batches=True)]
    assert decide(shard, 2 * PERIOD + 1) == [ClosedGroup("a", 3, (4,), batches=True)]


def test_a_full_batch_is_over_at_once_and_another_begins():
    shard = new_shard(batches(2))
    for seq in range(1, 6):
        accept_for_batch(shard, seq, seq)
    assert decide(shard, 6) == [ClosedGroup("a", 1, (2,), batches=True), ClosedGroup("a", 3, (4,), batches=True)]
    assert decide(shard, 5 + PERIOD) == [ClosedGroup("a", 5, (), batches=True)]
    assert shard.events_of(5) == 1


def test_a_batch_is_over_before_its_events_are_too_large_together(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BATCHED_BYTES", 10)
    shard = new_shard(batches(100))
    for seq, size in ((1, 6), (2, 4), (3, 1), (4, 50), (5, 10)):
        accept_for_batch(shard, seq, 0, size)
    expected = [ClosedGroup("a", *each, batches=True) for each in ((1, (2,)), (3, ()), (4, ()))]
    assert sorted(decide(shard, 0)) == expected
    assert decide(shard, PERIOD) == [ClosedGroup("a", 5, (), batches=True)]


def test_one_that_leaves_its_batch_makes_no_room_and_the_next_one_is_the_first():
    shard = new_shard(batches(3))
    for seq in (1, 2):
        accept_for_batch(shard, seq, 0)
    assert shard.cancel(1, "a") is not None
    shard.ended(1)
    for seq in (3, 4):
        accept_for_batch(shard, seq, 10)
    assert decide(shard, 10) == [ClosedGroup("a", 2, (3, 4), batches=True)]


def test_events_that_were_to_be_batched_are_not_debounced_by_a_changed_flow_or_the_other_way_round():
    shard = new_shard(LATEST)
    accept_for_batch(shard, 1, 0)
    assert assigned(shard) == [1]
    shard.queues.set_policy("a", batches(3))
    accept(shard, 2, "x", 0)
    assert assigned(shard) == [2]
    shard = new_shard(None)
    for seq in (1, 2):
        shard.recover(seq, "a", 0, keys=ShapingKeys(group="x", size=1), receive_ms=0)
    shard.queues.set_policy("a", LATEST)
    shard.begin(0.0)
    assert assigned(shard) == [1, 2]


def test_batches_form_again_after_a_restart():
    shard = new_shard(None)
    for seq, at in ((1, 0), (2, 500), (3, 501)):
        shard.recover(seq, "a", 0, keys=ShapingKeys(group="x", size=1), receive_ms=at)
    shard.queues.set_policy("a", batches(3))
    shard.begin(0.0)
    assert decide(shard, 502) == [ClosedGroup("a", 1, (2, 3), batches=True)]


@given(
    st.lists(
        st.tuples(st.sampled_from("xy"), st.integers(0, PERIOD), st.integers(1, 9), st.integers(0, 9)), max_size=60
    ),
    st.integers(1, 5),
)
def test_each_event_is_in_one_batch_in_the_order_of_arrival(steps, size):
    shard, now, sent, removed, out = new_shard(batches(size)), 0, {}, set(), []
    for seq, (key, delay, weight, what) in enumerate(steps, 1):
        now += delay
        sent[seq] = (key, now, weight)
        accept_for_batch(shard, seq, now, weight * limits.MAX_BATCHED_BYTES // 20, key)
        victim = min(sent.keys() - removed)
        if what == 0 and shard.cancel(victim, "a") is not None:
            shard.ended(victim)
            removed.add(victim)
        if what > 4:
            out += decide(shard, now)
    out += decide(shard, now + PERIOD)
    assert shard.next_wake() is None
    together = [(each.seq, *each.absorbed) for each in out]
    handled = [seq for each in together for seq in each]
    assert len(handled) == len(set(handled))
    assert set(handled) | removed == sent.keys()
    for each in together:
        assert list(each) == sorted(each)
        assert len(each) <= size
        assert len({sent[seq][0] for seq in each}) == 1
        assert sum(sent[seq][2] for seq in each) <= 20
        assert sent[each[-1]][1] - sent[each[0]][1] <= PERIOD + max((delay for _, delay, _, _ in steps), default=0)
