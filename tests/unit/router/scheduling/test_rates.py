"""Rates of flows: lines, their times, and what is reserved of them for the time after a restart."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook.events.keys import ShapingKeys, rate_fingerprint
from router.scheduling import rates
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import AHEAD, LATENESS, RateLines, RatePolicy, RateWait
from router.scheduling.shard import Shard

DAY = 24 * 3600.0


class World:
    """A shard with a runner that ends at once what it is assigned, and a clock."""

    def __init__(self, rate=None, *, stored=None, now=0.0):
        self.now = now
        self.shard = Shard(epoch=1, lease_seconds=DAY * 40, max_attempts=3, reattach_seconds=2)
        self.shard.queues.rates.begin(now, stored or {})
        self.shard.begin(now)
        self.shard.runners.attach("r", now)
        self.shard.runners.add_credit("r", 4096)
        self.assigned = []
        self.seq = 0
        if rate is not None:
            self.shard.queues.set_policy("a", FlowPolicy(rate=rate))

    def accept(self, count=1, flow="a", key=""):
        for _ in range(count):
            self.seq += 1
            self.shard.accept(self.seq, flow, "", ShapingKeys(key) if key else None)
        return self.seq

    def assign(self):
        begun = len(self.assigned)
        while granted := self.shard.assign(now=self.now):
            for each in granted:
                self.assigned.append((self.now, each.seq))
                self.shard.end(each.token)
                self.shard.ended(each.seq)
                self.shard.runners.add_credit("r", 1)
        return [seq for _, seq in self.assigned[begun:]]

    def run(self, until, late=lambda: 0.0):
        while True:
            self.assign()
            due = self.shard.queues.rates.next()
            if due is None or due > until:
                self.now = until
                return
            self.now = max(self.now, due) + late()

    @property
    def times(self):
        return [now for now, _ in self.assigned]


def most_within(times, seconds):
    return max(bisect_left(times, time + seconds) - place for place, time in enumerate(times))


def test_a_backlog_is_assigned_at_the_rate_also_if_the_timer_is_late():
    world = World(RatePolicy(50, 1.0))
    world.now = 2.0
    world.accept(5000)
    lateness = random.Random(1)
    world.run(102.5, late=lambda: lateness.random() * 0.03)
    assert [seq for _, seq in world.assigned] == list(range(1, 5001))
    windows = [bisect_left(world.times, at + 2.0) - bisect_left(world.times, at) for at in world.times[:-110]]
    assert 95 <= min(windows) <= max(windows) <= 105


def test_what_is_idle_saves_up_a_burst_and_no_more():
    world = World(RatePolicy(10, 1.0, burst=4))
    world.now = 1000.0
    world.accept(6)
    assert world.assign() == [1, 2, 3, 4]
    world.run(1000.11)
    assert [seq for _, seq in world.assigned] == [1, 2, 3, 4, 5]


def test_without_a_burst_one_is_assigned_at_a_time():
    world = World(RatePolicy(10, 1.0))
    world.now = 1000.0
    world.accept(6)
    assert world.assign() == [1]
    world.now += 0.099
    assert world.assign() == []
    world.now += 0.002
    assert world.assign() == [2]


def test_each_key_has_the_rate_for_itself():
    world = World(RatePolicy(1, 10.0, keyed=True))
    world.now = 1000.0
    for key in ("x", "y", "x", "z", "y"):
        world.accept(key=key)
    world.accept()
    assert sorted(world.assign()) == [1, 2, 4, 6]
    assert world.shard.queues.rates.of_flow("a") == 4
    world.run(1010.5)
    assert sorted(seq for _, seq in world.assigned) == [1, 2, 3, 4, 5, 6]
    world.run(1050.0)
    assert world.shard.queues.rates.of_flow("a") == 0


@pytest.mark.parametrize(("keyed", "times"), [(False, [0, 10, 20, 30]), (True, [0, 0, 10, 10])])
def test_another_rate_holds_at_once_without_moving_what_waits(monkeypatch, keyed, times):
    world = World(RatePolicy(1, DAY, keyed=keyed))
    world.now = 1000.0
    for key in "xyxy":
        world.accept(key=key)
    world.assign()
    monkeypatch.delattr(RateLines, "drain")
    world.shard.queues.set_policy("a", FlowPolicy(rate=RatePolicy(1, 10.0, keyed=keyed)))
    world.run(1040.0)
    assert sorted(seq for _, seq in world.assigned) == [1, 2, 3, 4]
    assert [at - 1000.0 for at in world.times] == pytest.approx(times, abs=0.001)


@pytest.mark.parametrize(
    ("policy", "soon"),
    [
        (FlowPolicy(rate=RatePolicy(50, 1.0)), True),
        (FlowPolicy(rate=RatePolicy(1, DAY)), False),
        (FlowPolicy(rate=RatePolicy(50, 1.0), paused=True), False),
    ],
)
def test_what_may_wait_for_long_is_not_expected_soon_and_takes_no_room_of_others(policy, soon):
    shard = World().shard
    shard.queues.set_policy("a", policy)
    assert shard.accept(1, "a") is soon


def test_of_very_many_lines_some_are_looked_at_in_each_call_and_none_is_left_out():
    world = World(RatePolicy(1, DAY, keyed=True))
    world.now = 1000.0
    many = rates.MAX_RELEASED + 10
    for number in range(many):
        world.accept(key=str(number))
    world.shard.assign(now=world.now)
    assert world.assigned == []
    assert world.shard.queues.rates.next() <= world.now
    world.shard.cancel(many, "a")
    world.shard.ended(many)
    world.run(1001.0)
    assert sorted(seq for _, seq in world.assigned) == list(range(1, many))
    world.run(1000.0 + DAY + 1)
    assert world.shard.queues.rates.of_flow("a") == 0


def test_a_flow_that_waits_for_its_rate_lets_others_run():
    world = World(RatePolicy(1, 10.0))
    world.now = 1000.0
    world.accept(100)
    first = world.accept(50, flow="b") - 49
    assert sorted(world.assign()) == [1, *range(first, first + 50)]


def test_no_flow_without_a_rate_has_a_line():
    world = World()
    world.accept(10, key="x")
    assert len(world.assign()) == 10
    assert not world.shard.queues.rates
    assert world.shard.queues.rates.next() is None


def test_one_that_comes_back_is_the_next_and_counts_again():
    world = World(RatePolicy(1, 10.0))
    world.now = 1000.0
    world.accept(3)
    (granted,) = world.shard.assign(now=1000.0)
    world.shard.park(granted.token)
    world.shard.parked(1, 1_001_000)
    assert world.shard.wake(1_001_000) == [1]
    assert world.assign() == []
    world.run(1010.5)
    assert [seq for _, seq in world.assigned] == [1]


def test_an_assignment_that_no_runner_received_does_not_count():
    world = World(RatePolicy(1, DAY))
    world.now = 1000.0
    world.accept(2)
    (granted,) = world.shard.assign(now=world.now)
    world.shard.refund(granted.seq)
    world.shard.losses.release(granted.token, charged=False)
    world.shard.requeued([1])
    assert world.assign() == [1]
    assert world.assign() == []


def test_one_that_is_cancelled_leaves_its_place_to_the_next():
    world = World(RatePolicy(1, 10.0))
    world.now = 1000.0
    world.accept(4)
    world.shard.queues.release(world.now)
    for seq in (1, 3):
        assert world.shard.cancel(seq, "a") is not None
        world.shard.ended(seq)
    world.run(1010.5)
    assert [seq for _, seq in world.assigned] == [2, 4]


def test_a_suspended_one_takes_no_part():
    world = World(RatePolicy(1, 10.0))
    world.now = 1000.0
    world.accept(3)
    world.shard.suspend(1, "a")
    assert world.assign() == [2]
    world.shard.resume(1)
    world.run(1010.5)
    assert [seq for _, seq in world.assigned] == [2, 1]


def test_a_pause_saves_nothing_up():
    world = World(RatePolicy(10, 1.0))
    world.accept(200)
    world.shard.queues.set_policy("a", FlowPolicy(rate=RatePolicy(10, 1.0), paused=True))
    world.run(100.0)
    assert world.assigned == []
    world.shard.queues.set_policy("a", FlowPolicy(rate=RatePolicy(10, 1.0)))
    world.run(101.0)
    assert most_within(world.times, 1.0) <= 11


def test_a_rate_that_is_applied_counts_for_what_waits_already_and_one_that_goes_holds_nothing_back():
    world = World()
    world.now = 1000.0
    world.accept(5)
    world.shard.queues.set_policy("a", FlowPolicy(rate=RatePolicy(1, DAY)))
    assert world.assign() == [1]
    world.shard.queues.set_policy("a", FlowPolicy(rate=RatePolicy(1, 10.0)))
    assert world.assign() == []
    world.run(1010.5)
    assert [seq for _, seq in world.assigned] == [1, 2]
    world.shard.queues.set_policy("a", FlowPolicy())
    assert world.assign() == [3, 4, 5]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_one_that_waits_says_when_its_turn_comes():
    world = World(RatePolicy(2, 10.0))
    world.now = 1000.0
    world.accept(4)
    assert world.assign() == [1]
    assert world.shard.queues.rates.waits([1, 2, 4]) == {2: RateWait(1005.0, 1), 4: RateWait(1015.0, 3)}


def test_those_that_wait_are_counted_and_the_next_of_a_flow_is_known():
    world = World(RatePolicy(2, 10.0))
    world.now = 1000.0
    world.accept(4)
    assert world.assign() == [1]
    assert (len(world.shard.queues.rates), world.shard.queues.load("a").next, world.shard.queues.load("a").pending) == (
        3,
        2,
        3,
    )


def test_what_is_far_back_is_not_counted(monkeypatch):
    monkeypatch.setattr(rates, "MAX_POSITION", 3)
    world = World(RatePolicy(2, 10.0))
    world.now = 1000.0
    world.accept(9)
    world.assign()
    turns = world.shard.queues.rates.waits([2, 4, 9])
    assert (turns[2].position, turns[4].position, turns[9]) == (1, 3, RateWait(None, None))


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_quick_rate_needs_nothing_stored():
    world = World(RatePolicy(50, 1.0, burst=50))
    world.now = 1000.0
    world.accept(100)
    world.assign()
    assert world.shard.queues.rates.unreserved == {}


def test_after_a_restart_no_burst_begins_anew():
    before = World(RatePolicy(50, 1.0, burst=50))
    before.now = 1000.0
    before.accept(200)
    before.run(1001.0)
    after = World(RatePolicy(50, 1.0, burst=50), now=1001.0)
    after.accept(200)
    after.run(1003.0)
    times = before.times + after.times
    assert most_within(times, 2.0) <= 50 + 100 + 50 * LATENESS + 1
    assert len(after.times) >= 95


def test_a_slow_rate_is_reserved_before_it_is_used_and_the_reservation_holds_over_a_restart():
    world = World(RatePolicy(1, DAY, keyed=True))
    world.now = 1000.0
    world.accept(key="x")
    world.accept(key="x")
    (granted,) = world.shard.assign(now=world.now)
    assert granted.seq == 1
    lines = world.shard.queues.rates.reserve([1])
    ((line, until),) = lines
    assert (line.id, until) == (("a", "x"), 1000.0 + DAY + AHEAD)
    world.shard.queues.rates.reserved([1], lines)
    assert world.shard.queues.rates.unreserved == {}
    world.shard.end(granted.token)
    world.shard.ended(1)

    after = World(RatePolicy(1, DAY, keyed=True), stored={rate_fingerprint("a", "x"): until}, now=2000.0)
    after.accept(key="x")
    after.accept(key="y")
    after.run(2000.0 + 2 * AHEAD)
    assert [seq for _, seq in after.assigned] == [2]
    after.run(1000.0 + DAY + 2 * AHEAD)
    assert [seq for _, seq in after.assigned] == [2, 1]


def test_nothing_is_kept_of_one_that_is_cancelled_before_it_is_sent():
    world = World(RatePolicy(1, DAY))
    world.now = 1000.0
    world.accept()
    (granted,) = world.shard.assign(now=world.now)
    assert world.shard.queues.rates.unreserved.keys() == {1}
    assert world.shard.cancel(granted.seq, "a") is not None
    world.shard.ended(1)
    assert world.shard.queues.rates.unreserved == {}


def test_a_clock_that_was_set_back_holds_nothing_back_for_longer_than_the_rate():
    world = World(RatePolicy(1, 100.0), stored={rate_fingerprint("a", ""): 10**9}, now=2000.0)
    world.accept()
    world.run(2100.5)
    assert len(world.assigned) == 1


# --- whatever happens -------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    rate=st.builds(
        lambda limit, per, burst, keyed: RatePolicy(limit, per, min(burst, limit), keyed=keyed),
        st.integers(1, 100),
        st.sampled_from([0.5, 1.0, 60.0, DAY]),
        st.integers(1, 20),
        st.booleans(),
    ),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["accept", "wait", "cancel", "restart", "pause", "resume", "come back"]),
            st.floats(0, 2),
            st.sampled_from(["", "x", "y"]),
        ),
        max_size=60,
    ),
)
def test_no_line_is_ever_assigned_more_than_its_rate_allows(rate, steps):
    story = Story(rate)
    for step, seconds, key in steps:
        story.take(step, seconds, key)
        story.assign()
    for times in story.given_out.values():
        for first, begin in enumerate(times):
            for last in range(first, len(times)):
                allowed = rate.burst + (times[last] - begin + LATENESS) / rate.interval
                assert last - first + 1 <= allowed + 1e-6


class Story:
    """A world in which executions come and go, with what is stored of it."""

    def __init__(self, rate):
        self.rate, self.world = rate, World(rate, now=100.0)
        self.keys, self.stored, self.given_out, self.waiting = {}, {}, {}, set()

    def take(self, step, seconds, key):
        shard = self.world.shard
        if step == "accept":
            self.keys[self.world.accept(key=key)] = key
            self.waiting.add(self.world.seq)
        elif step == "wait":
            self.world.now += seconds * self.rate.interval
        elif step == "cancel" and self.waiting:
            seq = min(self.waiting)
            self.waiting.discard(seq)
            assert shard.cancel(seq, "a") is not None
            shard.ended(seq)
        elif step == "restart":
            self.restart()
        elif step in ("pause", "resume"):
            shard.queues.set_policy("a", FlowPolicy(rate=self.rate, paused=step == "pause"))

    def restart(self):
        self.world = World(self.rate, stored=self.stored, now=self.world.now)
        self.world.seq = max(self.keys, default=0)
        for seq in sorted(self.waiting):
            key = self.keys[seq]
            self.world.shard.accept(seq, "a", "", ShapingKeys(key) if key else None)

    def assign(self):
        while granted := self.world.shard.assign(now=self.world.now):
            for each in granted:
                self.settle(each)

    def settle(self, granted):
        shard, seq = self.world.shard, granted.seq
        unreserved = [seq] if seq in shard.queues.rates.unreserved else []
        lines = shard.queues.rates.reserve(unreserved)
        self.stored.update({rate_fingerprint(*line.id): until for line, until in lines})
        shard.queues.rates.reserved(unreserved, lines)
        self.given_out.setdefault(self.keys[seq] if self.rate.keyed else "", []).append(self.world.now)
        self.waiting.discard(seq)
        if not unreserved and seq % 7 == 0:  # its runner is lost
            shard.losses.release(granted.token, charged=False)
            shard.requeued([seq])
            self.waiting.add(seq)
        else:
            shard.end(granted.token)
            shard.ended(seq)
        shard.runners.add_credit("r", 1)


@pytest.mark.parametrize("burst", [1, 3])
def test_the_heap_stays_in_proportion_to_the_lines(burst):
    lines, rate = RateLines({}), RatePolicy(10, DAY, burst)
    lines.begin(0.0)
    for number in range(20_000):
        lines.enter(number, "a", rate)
        lines.release(float(number % 2))
        lines.remove(number) or lines.withdrawn(number)
    assert len(lines._heap) <= 2 * rates.MIN_STALE
