"""Concurrency by key: who has a place, in which order, and what a restart changes about it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.examples import examples

from flowhook.events.keys import ShapingKeys
from flowhook.model import Status
from router.scheduling import places
from router.scheduling.queues import FlowPolicy
from router.scheduling.rates import RatePolicy
from router.scheduling.shard import Shard

KEYED = FlowPolicy(key_concurrency=2)


def new_shard(policy=KEYED, epoch=1):
    shard = Shard(epoch=epoch, lease_seconds=1000, max_attempts=3, reattach_seconds=2)
    shard.queues.rates.begin(0.0)
    if policy is not None:
        shard.queues.set_policy("a", policy)
    return shard


def with_runner(shard):
    shard.runners.attach("r", 0.0)
    shard.runners.add_credit("r", 1000)
    return shard


@pytest.fixture
def shard():
    return with_runner(new_shard())


def accept(shard, *keys, first=1):
    for seq, key in enumerate(keys, first):
        shard.accept(seq, "a", "", ShapingKeys(concurrency=key) if key else None)


def assigned(shard, now=0.0):
    granted = {}
    while found := shard.assign(now=now):
        granted |= {each.seq: each.token for each in found}
    return granted


def end(shard, token):
    seq = shard.end(token).seq
    shard.ended(seq)


def test_of_several_that_are_woken_at_once_the_earliest_have_the_places(shard):
    accept(shard, *"xxxxx")
    for _ in range(3):
        for seq, token in assigned(shard).items():
            shard.park(token)
            shard.parked(seq, 1000 + seq)
    assert shard.wake(2000) == [1, 2, 3, 4, 5]
    running = assigned(shard)
    assert list(running) == [1, 2]
    end(shard, running[2])
    assert list(assigned(shard)) == [3]
    shard.accept(6, "a", "", ShapingKeys(concurrency="x"))
    end(shard, running[1])
    assert list(assigned(shard)) == [4]


def test_of_several_that_are_given_back_at_once_the_earliest_have_the_places(shard):
    accept(shard, *"xxxx")
    for _ in range(2):
        for seq, token in assigned(shard).items():
            shard.park(token)
            shard.parked(seq, None)
    shard.deliver([4, 1, 3])
    shard.requeued([4, 1, 3])
    assert list(assigned(shard)) == [1, 3]


def test_of_each_key_only_so_many_run_in_order_of_arrival(shard):
    accept(shard, "x", "x", "x", "y", "x", "", "", "")
    running = assigned(shard)
    assert sorted(running) == [1, 2, 4, 6, 7, 8]
    end(shard, running[2])
    assert sorted(assigned(shard)) == [3]
    end(shard, running[1])
    assert sorted(assigned(shard)) == [5]


def test_a_lower_limit_leaves_the_places_to_those_that_came_first(shard):
    shard.queues.set_policy("a", FlowPolicy(key_concurrency=8))
    accept(shard, *"x" * 10)
    shard.queues.set_policy("a", KEYED)
    begun = []
    while running := assigned(shard):
        begun += running
        for token in running.values():
            end(shard, token)
    assert begun == list(range(1, 11))


def test_one_that_waits_holds_no_place_and_comes_back_before_the_others(shard):
    accept(shard, "x", "x", "x", "x")
    running = assigned(shard)
    shard.park(running[1])
    shard.parked(1, 1000)
    running |= assigned(shard)
    assert sorted(running) == [1, 2, 3]
    shard.wake(1000)
    assert assigned(shard) == {}
    end(shard, running[2])
    assert sorted(assigned(shard)) == [1]


def test_one_that_is_suspended_gives_its_place_away(shard):
    accept(shard, "x", "x", "x", "x")
    assert sorted(assigned(shard)) == [1, 2]
    shard.suspend(1, "a")
    running = assigned(shard)
    assert sorted(running) == [3]
    shard.suspend(4, "a")
    shard.resume(1)
    end(shard, running[3])
    assert sorted(assigned(shard)) == [1]


def test_one_whose_runner_is_lost_keeps_its_place(shard):
    accept(shard, "x", "x", "x")
    running = assigned(shard)
    shard.losses.release(running[1], charged=False)
    assert assigned(shard) == {}
    shard.requeued([1])
    assert sorted(assigned(shard)) == [1]


@pytest.mark.parametrize("cancelled", [1, 3, 4])
def test_one_that_is_cancelled_leaves_its_place_or_its_line(shard, cancelled):
    accept(shard, "x", "x", "x", "x", "x")
    running = assigned(shard)
    assert shard.cancel(cancelled, "a") is not None
    shard.ended(cancelled)
    if cancelled != 1:
        end(shard, running[1])
    end(shard, running[2])
    assert len(assigned(shard)) == 2


def test_a_limit_that_is_raised_lets_more_in_and_one_that_goes_lets_all_in(shard):
    accept(shard, *"xxxxxx")
    assert sorted(assigned(shard)) == [1, 2]
    shard.queues.set_policy("a", FlowPolicy(key_concurrency=3))
    assert sorted(assigned(shard)) == [3]
    shard.queues.set_policy("a", FlowPolicy())
    assert sorted(assigned(shard)) == [4, 5, 6]


def test_a_limit_that_is_lowered_counts_what_runs(shard):
    accept(shard, *"xxxx")
    running = assigned(shard)
    shard.queues.set_policy("a", FlowPolicy(key_concurrency=1))
    end(shard, running[1])
    assert assigned(shard) == {}
    end(shard, running[2])
    assert sorted(assigned(shard)) == [3]


def test_places_are_given_before_times(shard):
    shard.queues.set_policy("a", FlowPolicy(key_concurrency=1, rate=RatePolicy(1, 10.0)))
    accept(shard, "x", "x", "y")
    assert sorted(assigned(shard, 100.0)) == [1]
    assert sorted(assigned(shard, 110.5)) == [3]
    assert shard.queues.places.positions([2]) == {2: 1}


def test_nothing_is_left_of_a_key_that_nobody_has(shard):
    accept(shard, "x", "x", "x", "y")
    while running := assigned(shard):
        for token in running.values():
            end(shard, token)
    assert not shard.queues.places
    assert shard.queues.keys == {}


def test_positions_are_counted_within_bounds(shard, monkeypatch):
    monkeypatch.setattr(places, "MAX_POSITION", 3)
    accept(shard, *"xxxxxxxx")
    assert shard.queues.places.positions([1, 3, 5, 8]) == {3: 1, 5: 3, 8: 0}


def test_after_a_restart_what_a_runner_may_work_on_has_its_place():
    shard = new_shard(None, epoch=2)
    for seq in range(1, 5):
        shard.recover(seq, "a", 0, keys=ShapingKeys(concurrency="x"))
    shard.queues.set_policy("a", KEYED)
    shard.begin(0.0)
    with_runner(shard)
    accept(shard, "x", "y", first=5)
    assert sorted(assigned(shard)) == [6]
    shard.expire(3.0)
    running = assigned(shard)
    assert sorted(running) == [1, 2]
    end(shard, running[2])
    assert sorted(assigned(shard)) == [3]


class KeyedConcurrency(RuleBasedStateMachine):
    """Executions of three keys, whatever happens to them, over restarts after which runners claim what they have."""

    def __init__(self):
        super().__init__()
        self.shard, self.epoch, self.clock = with_runner(new_shard()), 1, 0.0
        self.shard.begin(0.0)
        self.limit, self.seq = 2, 0
        self.keys, self.running, self.pending, self.waiting = {}, {}, set(), set()
        self.terms = {}

    @rule(key=st.sampled_from(["", "x", "y"]), count=st.integers(1, 4))
    def accept(self, key, count):
        accept(self.shard, *[key] * count, first=self.seq + 1)
        for _ in range(count):
            self.seq += 1
            self.keys[self.seq] = key
            self.pending.add(self.seq)

    @rule()
    def assign(self):
        found = assigned(self.shard)
        self.pending -= found.keys()
        self.running |= found

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["end", "park", "lose", "suspend"]))
    def stop(self, data, how):
        seq = data.draw(st.sampled_from(sorted(self.running)))
        token = self.running.pop(seq)
        if how == "end":
            end(self.shard, token)
        elif how == "park":
            self.shard.park(token)
            self.shard.parked(seq, None)
            self.waiting.add(seq)
        elif how == "lose":
            self.shard.losses.release(token, charged=False)
            self.shard.requeued([seq])
            self.pending.add(seq)
        else:
            self.shard.suspend(seq, "a")
            self.shard.resume(seq)
            self.pending.add(seq)
        if how != "end":
            self.terms[seq] = self.shard.leases.term_of(seq)

    @precondition(lambda self: self.waiting)
    @rule()
    def deliver(self):
        seq = min(self.waiting)
        self.waiting.discard(seq)
        self.shard.deliver([seq])
        self.shard.requeued([seq])
        self.pending.add(seq)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def cancel(self, data):
        seq = data.draw(st.sampled_from(sorted(self.pending)))
        if self.shard.cancel(seq, "a") is not None:
            self.shard.ended(seq)
            self.pending.discard(seq)

    @rule(limit=st.integers(2, 3))
    def apply(self, limit):
        self.limit = max(self.limit, limit)
        self.shard.queues.set_policy("a", FlowPolicy(key_concurrency=self.limit))

    @rule(claims=st.booleans())
    def restart(self, claims):
        self.epoch += 1
        self.shard = new_shard(None, self.epoch)
        for seq in sorted({*self.pending, *self.running, *self.waiting}):
            key = self.keys[seq]
            keys, term = ShapingKeys(concurrency=key) if key else None, self.terms.get(seq, 0)
            waits = seq in self.waiting
            status = Status.WAITING if waits else Status.PENDING
            self.shard.recover(seq, "a", int(waits), status=status, term=term, keys=keys)
        self.shard.queues.set_policy("a", FlowPolicy(key_concurrency=self.limit))
        self.shard.begin(self.clock)
        if claims:
            attached = self.shard.attach("r", self.running.values(), explained=True, now=self.clock)
            kept = set(attached.kept)
            self.pending |= {seq for seq, token in self.running.items() if token not in kept}
            self.running = {seq: token for seq, token in self.running.items() if token in kept}
        else:
            self.pending |= self.running.keys()
            self.running = {}
        self.shard.runners.attach("r", self.clock)
        self.shard.runners.add_credit("r", 1000)

    @rule()
    def time_passes(self):
        self.clock += 3.0
        self.shard.runners.renew("r", self.clock)
        self.shard.expire(self.clock)

    @invariant()
    def no_key_runs_more_than_it_may(self):
        for key in ("x", "y"):
            assert sum(self.keys[seq] == key for seq in self.running) <= self.limit

    def teardown(self):
        self.time_passes()
        for _ in range(2 * self.seq + 2):
            self.assign()
            for token in self.running.values():
                end(self.shard, token)
            self.running = {}
        assert not self.pending
        for seq in sorted(self.waiting):
            self.shard.cancel(seq, "a")
            self.shard.ended(seq)
        assert not self.shard.queues.places
        assert self.shard.queues.keys == {}


TestKeyedConcurrency = KeyedConcurrency.TestCase
TestKeyedConcurrency.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
