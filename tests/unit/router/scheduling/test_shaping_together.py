"""Rate, concurrency by key, order, priority and debouncing of one flow at once: all executions end, nothing is left."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.events.keys import ShapingKeys
from router.scheduling import queues, rates
from router.scheduling.groups import GroupPolicy
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import RatePolicy
from router.scheduling.shard import Shard

POLICIES = st.builds(
    FlowPolicy,
    concurrency=st.sampled_from([None, None, 2]),
    rate=st.none() | st.builds(RatePolicy, st.sampled_from([1, 5]), st.sampled_from([1.0, 50.0]), keyed=st.booleans()),
    key_concurrency=st.sampled_from([None, 1, 2]),
    by_priority=st.booleans(),
    group=st.sampled_from([None, GroupPolicy(500), GroupPolicy(500, first=True, size=3)]),
    paused=st.booleans(),
)
KEYS = st.builds(
    ShapingKeys,
    *[st.sampled_from(["", "x", "y"])] * 2,
    st.sampled_from([0, 5]),
    st.sampled_from(["", "d"]),
    st.sampled_from([0, 9]),
)
STEPS = st.one_of(
    st.tuples(st.just("accept"), st.none() | KEYS, st.sampled_from(["", "o"])),
    st.tuples(st.sampled_from(["assign", "end", "park", "return", "suspend", "resume", "cancel", "time"])),
    st.tuples(st.just("apply"), POLICIES),
)


class _World:
    def __init__(self):
        self.shard = Shard(epoch=1, lease_seconds=1e9, max_attempts=3, reattach_seconds=2)
        self.shard.queues.rates.begin(0.0)
        self.shard.begin(0.0)
        self.shard.runners.attach("r", 0.0)
        self.shard.runners.add_credit("r", 1000)
        self.now, self.seq = 0.0, 0
        self.unended, self.suspended, self.leases = set(), set(), {}

    def accept(self, keys, order_key):
        self.seq += 1
        self.unended.add(self.seq)
        self.shard.accept(self.seq, "a", order_key, keys, now_ms=int(self.now * 1000))

    def apply(self, policy):
        self.shard.queues.set_policy("a", policy)

    def assign(self):
        for each in self.shard.assign(now=self.now):
            assert each.seq not in self.leases
            self.leases[each.seq] = each.token

    def end(self):
        for seq, token in self.leases.items():
            self.shard.end(token)
            self._ended(seq)
        self.leases.clear()

    def _ended(self, seq):
        self.shard.ended(seq)
        self.unended.remove(seq)
        self.suspended.discard(seq)

    def park(self):
        if self.leases:
            seq, token = self.leases.popitem()
            self.shard.park(token)
            self.shard.parked(seq, int(self.now * 1000) + 700)

    def give_back(self):
        if self.leases:
            seq, token = self.leases.popitem()
            self.shard.refund(seq)
            self.shard.losses.release(token, charged=False)
            self.shard.requeued([seq])

    def suspend(self):
        for seq in sorted(self.unended)[1:2]:
            if self.shard.suspend(seq, "a") is not None:
                self.suspended.add(seq)
                self.leases.pop(seq, None)

    def resume(self):
        for seq in self.suspended:
            assert self.shard.resume(seq)
        self.suspended.clear()

    def cancel(self):
        for seq in sorted(self.unended)[2:3]:
            self.leases.pop(seq, None)
            assert self.shard.cancel(seq, "a") is not None
            self._ended(seq)

    def time(self, seconds=0.3):
        self.now += seconds
        self.shard.wake(int(self.now * 1000))
        for each in self.shard.close_groups(int(self.now * 1000)):
            for seq in each.absorbed:
                self._ended(seq)
            self.shard.goes_on(each.seq, "a")

    def finish(self, policy):
        self.resume()
        self.apply(policy)
        for _ in range(50 * self.seq + 20):
            self.assign()
            self.end()
            self.time(1.0)


LINES = 7


def keyed(number, *, prior):
    return ShapingKeys(concurrency=f"c{number % LINES}", rate=f"r{number % LINES}", priority=number % 2 * prior)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FlowPolicy(), FlowPolicy(key_concurrency=1000)),
        (FlowPolicy(key_concurrency=1), FlowPolicy()),
        (FlowPolicy(rate=RatePolicy(1, 50.0, keyed=True)), FlowPolicy(by_priority=True)),
        (
            FlowPolicy(by_priority=True, rate=RatePolicy(1, 1e6)),
            FlowPolicy(rate=RatePolicy(10_000, 1.0, 10_000, keyed=True)),
        ),
        (
            FlowPolicy(key_concurrency=1, rate=RatePolicy(1, 50.0)),
            FlowPolicy(key_concurrency=1000, rate=RatePolicy(10_000, 1.0, 10_000)),
        ),
    ],
    ids=["to a limit", "from a limit", "to priorities", "to keys", "to another limit"],
)
def test_what_waits_moves_to_other_lines_little_by_little_and_in_order(before, after):
    """However many wait, the executions of other flows go on meanwhile."""
    world, count = _World(), 5 * queues.MAX_MOVED
    prior = before.by_priority or after.by_priority
    world.apply(before)
    for number in range(count):
        world.accept(keyed(number, prior=prior), "")

    def run():
        found = world.shard.assign(now=world.now)
        for each in found:
            world.shard.end(each.token)
            world.shard.ended(each.seq)
        world.shard.runners.add_credit("r", max(len(found), 1))
        return [each.seq for each in found]

    order, moved = run(), []
    world.now += 1000.0
    world.apply(after)
    while (change := world.shard.queues.flow("a").change) is not None:
        number = len(change.seqs)
        world.shard.accept(count + len(moved) + 1, "b")
        found = run()
        assert count + len(moved) + 1 in found
        moved.append(abs(len(change.seqs) - number))
        assert len(found) == 1 or change.sources is None  # nothing is ready before all are taken
        order += [seq for seq in found if seq <= count]
    assert max(moved) <= queues.MAX_MOVED + LINES  # the first of each line whose time came meanwhile
    assert len(moved) >= 8
    ready = len(order)
    while found := run():
        order += found
    assert sorted(order) == list(range(1, count + 1))
    assert prior or order[ready:] == sorted(order[ready:])
    assert world.shard.unfinished == 0


@settings(max_examples=examples(200))
@given(POLICIES, st.lists(STEPS, max_size=60), POLICIES, st.integers(1, 4))
def test_all_executions_end_and_nothing_is_left_of_them(first, steps, last, moved):
    most, rates.MAX_RELEASED = (rates.MAX_RELEASED, queues.MAX_MOVED), 1
    queues.MAX_MOVED = moved
    try:
        world = _World()
        world.apply(first)
        for step, *arguments in steps:
            getattr(world, {"return": "give_back"}.get(step, step))(*arguments)
        world.finish(FlowPolicy(rate=last.rate, key_concurrency=last.key_concurrency, by_priority=last.by_priority))
    finally:
        rates.MAX_RELEASED, queues.MAX_MOVED = most
    shard = world.shard
    assert world.unended == set()
    lines = shard.queues
    assert (shard.unfinished, len(shard.groups), lines.places.waiting) == (0, 0, 0)
    assert (len(lines.rates), lines.ready, len(lines.rates._lines)) == (0, 0, 0)
    assert not shard.queues.rates.unreserved
    assert not shard.queues._changes
    assert not shard.queues.places
