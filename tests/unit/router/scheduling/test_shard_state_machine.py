"""The scheduling core under any sequence of calls: nothing lost, nothing twice, limits kept."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, invariant, multiple, rule
from support.examples import examples
from support.shard_model import FLOWS, KEYS, REATTACH, RUNNERS, ShardModel

from flowhook.model.executions import AttemptEnd
from router.scheduling.queues import FlowPolicy


class ShardMachine(ShardModel):
    """The calls that a router makes, in any order."""

    tokens = Bundle("tokens")

    @rule(flow=strategies.sampled_from(FLOWS), key=strategies.sampled_from(KEYS), count=strategies.integers(1, 3))
    def accept_some(self, flow, key, count):
        for _ in range(count):
            self.accept(flow, key)

    @rule(
        flow=strategies.sampled_from(FLOWS),
        concurrency=strategies.sampled_from([None, 1, 2]),
        paused=strategies.booleans(),
    )
    def set_policy(self, flow, concurrency, paused):
        self.policies[flow] = FlowPolicy(concurrency, paused)
        self.shard.queues.set_policy(flow, self.policies[flow])

    @rule(
        runner=strategies.sampled_from(RUNNERS),
        explained=strategies.booleans(),
        credit=strategies.sampled_from([0, 3]),
        data=strategies.data(),
    )
    def attach(self, runner, explained, credit, data):
        known = sorted(token for token, (_, owner, _) in self.assigned_tokens.items() if owner == runner)
        held = data.draw(strategies.lists(strategies.sampled_from(known), unique=True)) if known else []
        self.attach_runner(runner, held, explained=explained, credit=credit)

    @rule(token=tokens, final=strategies.booleans())
    def report_late_failure(self, token, final):
        _, runner, _ = self.assigned_tokens[token]
        reported = self.shard.losses.report_late_failure(runner, token, final=final)
        if reported is None:
            return
        seq, attempts, is_ending, newer = reported
        assert seq not in self.ending
        assert token not in self.valid
        assert attempts == self.attempts[seq] >= 1
        if newer is not None:
            assert final
            assert is_ending
            assert self.valid.pop(newer.token) == (seq, newer.runner.id)
            self.ending.add(seq)
        elif is_ending:
            assert self.latest[seq] == token, "somebody else had it in between"
            assert seq not in self.suspended
            assert seq not in self.waiting
            self.leave_states(seq)
            self.ending.add(seq)

    @rule(runner=strategies.sampled_from(RUNNERS))
    def detach(self, runner):
        self.shard.runners.detach(runner, self.now)
        self.attached.discard(runner)

    @rule(runner=strategies.sampled_from(RUNNERS), credit=strategies.integers(1, 5))
    def add_credit(self, runner, credit):
        assert self.shard.runners.add_credit(runner, credit) == (runner in self.attached)

    @rule(runner=strategies.sampled_from(RUNNERS))
    def renew(self, runner):
        self.shard.runners.renew(runner, self.now)

    @rule(target=tokens, flow=strategies.sampled_from(FLOWS), runner=strategies.sampled_from(RUNNERS))
    def lose_a_runner(self, flow, runner):
        """A runner gets work and is lost, and another one gets that work: rarely found step by step."""
        (other,) = set(RUNNERS) - {runner}
        for each in (runner, other):
            mine = [token for token, (_, owner) in self.valid.items() if owner == each]
            self.expect_refunds(self.shard.attach(each, mine, explained=True, now=self.now), explained=True)
            self.attached.add(each)
        self.set_policy(flow, None, paused=False)
        self.accept(flow, "")
        self.add_credit(runner, 5)
        assigned_tokens = list(self.assign_all())
        self.detach(runner)
        self.pass_time(REATTACH)
        self.store_transitions()
        if other in self.attached:
            self.add_credit(other, 5)
        return multiple(*assigned_tokens, *self.assign_all())

    @rule(
        target=tokens,
        flow=strategies.sampled_from(FLOWS),
        runner=strategies.sampled_from(RUNNERS),
        concurrency=strategies.sampled_from([1, 2]),
        waits=strategies.booleans(),
        data=strategies.data(),
    )
    def return_after_a_restart(self, flow, runner, concurrency, waits, data):
        """A runner returns after a restart only when another one had its chance."""
        (other,) = set(RUNNERS) - {runner}
        self.set_policy(flow, concurrency, paused=False)
        self.attach_runner(runner, [token for token, (_, owner) in self.valid.items() if owner == runner])
        self.accept(flow, "")
        held = self.assign_all()
        if waits:
            for token in held:
                self.park(token, -1.0)
            self.store_transitions()
            self.wake()
            held += self.assign_all()
        self.restart(back=[other], data=data)
        self.accept(flow, "")
        held += self.assign_all()
        self.attach_runner(runner, [token for token in held if self.assigned_tokens[token][1] == runner])
        return multiple(*held, *self.assign_all())

    @rule(target=tokens)
    def assign(self):
        return multiple(*self.assign_all())

    @rule()
    def store_attempts(self):
        """Store which attempts are under way."""
        for seq, _ in self.valid.values():
            self.stored.begin(seq, self.shard.leases.attempt_of(seq))

    @rule(token=tokens)
    def take(self, token):
        taken = self.shard.end(token)
        assert (taken is not None) == (token in self.valid)
        if taken is not None:
            assert self.valid.pop(token)[0] == taken.seq
            self.ending.add(taken.seq)

    @rule(token=tokens, seconds=strategies.sampled_from([None, -1.0, 0.5, 2.0, 5.0]))
    def park(self, token, seconds):
        taken = self.shard.park(token)
        assert (taken is not None) == (token in self.valid)
        if taken is not None:
            del self.valid[token]
            self.attempts[taken.seq] = taken.attempt - 1
            self.parking[taken.seq] = None if seconds is None else self.now_ms + int(seconds * 1000)

    @rule(data=strategies.data())
    def deliver(self, data):
        """Deliver events to some executions, of which not all wait."""
        if not self.unfinished:
            return
        seqs = data.draw(strategies.lists(strategies.sampled_from(sorted(self.unfinished)), unique=True, max_size=3))
        delivered = self.shard.deliver(seqs)
        assert delivered == [(seq, self.attempts.get(seq, 0)) for seq in seqs if seq in self.waiting]
        for seq, _ in delivered:
            self.delivering[seq] = self.waiting.pop(seq)
            self.returning.add(seq)

    @rule(data=strategies.data())
    def end_returning(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        assert self.shard.pending.end_returning(seq) == (seq in self.returning)
        if seq in self.returning:
            self.leave_states(seq)
            self.ending.add(seq)

    @rule(data=strategies.data())
    def suspend(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        if seq in self.parking or seq in self.returning:
            self.store_stop(seq)  # what happened first is stored first
        withdrawn = self.shard.suspend(seq, self.unfinished[seq])
        assert (withdrawn is None) == (seq in self.ending or seq in self.suspended)
        if withdrawn is not None:
            leased = next((token for token, (its, _) in self.valid.items() if its == seq), None)
            assert (withdrawn.lease and withdrawn.lease.token) == leased
            self.valid.pop(leased, None)
            self.attempts[seq] = withdrawn.attempts
            self.stored.stop(
                seq, withdrawn.attempts, term=self.shard.leases.term_of(seq) if leased else 0, token=leased
            )
            self.leave_states(seq)
            self.suspended.add(seq)

    @rule(data=strategies.data())
    def resume(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        assert self.shard.resume(seq) == (seq in self.suspended)
        self.suspended.discard(seq)

    @rule(token=tokens, charged=strategies.booleans(), to_back=strategies.booleans())
    def release(self, token, charged, to_back):
        end = AttemptEnd.RELEASED
        loss = self.shard.losses.release(token, charged=charged, to_back=to_back, end=end)
        assert (loss is not None) == (token in self.valid)
        if loss is not None:
            self.expect_losses([loss])

    @rule(data=strategies.data())
    def cancel(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        cancelled = self.shard.cancel(seq, self.unfinished[seq])
        assert (cancelled is None) == (seq in self.ending)
        self.valid = {token: (its, runner) for token, (its, runner) in self.valid.items() if its != seq}
        self.leave_states(seq)
        self.ending.add(seq)

    @rule()
    def store_transitions(self):
        for seq, wake_at_ms in self.parking.items():
            self.shard.parked(seq, wake_at_ms)
            self.waiting[seq] = wake_at_ms
            self.store_stop(seq)
            self.stored.waiting[seq] = wake_at_ms
        self.parking.clear()
        self.shard.requeued(self.returning)
        for seq in self.returning:
            self.store_stop(seq)
        self.returning.clear()
        self.delivering.clear()
        for seq in self.ending:
            self.shard.ended(seq)
            del self.unfinished[seq]
        self.ending.clear()

    @rule(seconds=strategies.sampled_from([0.1, 1.0, 3.0, 7.0]))
    def pass_time(self, seconds):
        self.now += seconds
        self.attached.difference_update(self.shard.runners.silent(self.now))
        expired = self.shard.expire(self.now)
        self.expect_losses(expired.losses)
        for seq, attempt in expired.unclaimed:
            assert seq in self.begun
            assert attempt.number == self.attempts[seq]
        deadline = self.shard.next_deadline()
        assert deadline is None or deadline > self.now
        self.wake()

    @rule(
        back=strategies.lists(strategies.sampled_from(RUNNERS), unique=True),
        data=strategies.data(),
    )
    def restart(self, back, data):
        """The router dies: only what is stored remains.

        Then the runners `back` return with what they hold, or held long ago.
        """
        self.epoch += 1
        # what runners work on they may go on with, although the flow's limit is lower by now
        self.under_way = Counter(
            flow for seq, flow in self.unfinished.items() if self.latest.get(seq, b"") not in self.stored.void | {b""}
        )
        self.ending.clear()
        self.returning.clear()
        self.delivering.clear()
        self.parking.clear()
        self.attached.clear()
        self.waiting = {seq: at for seq, at in self.stored.waiting.items() if seq in self.unfinished}
        self.attempts = {seq: self.stored.attempts.get(seq, 0) for seq in self.unfinished}
        self.begun = {seq for seq in self.stored.begun if seq in self.unfinished}
        self.attempts |= {seq: self.stored.begun[seq] for seq in self.begun}
        self.recovered = self.seq
        self.shard = self.make()
        for flow, policy in self.policies.items():
            self.shard.queues.set_policy(flow, policy)
        for seq, flow in self.unfinished.items():
            self.recover(seq, flow)
        self.shard.begin(self.now)
        # until their runner shows them, tokens are good for nothing
        self.valid = {}
        for runner in back:
            self.attach(runner, explained=True, credit=3, data=data)

    def teardown(self):
        """Check that everything ends once nothing stands in its way."""
        self.store_transitions()
        self.policies.clear()
        for flow in FLOWS:
            self.shard.queues.set_policy(flow, FlowPolicy())
        for seq in sorted(self.suspended):
            assert self.shard.resume(seq)
        self.suspended.clear()
        for seq in [seq for seq, wake_at_ms in self.waiting.items() if wake_at_ms is None]:
            assert self.shard.cancel(seq, self.unfinished[seq])
            del self.waiting[seq]
            self.ending.add(seq)
        self.store_transitions()
        self.pass_time(10.0)  # wakes what waits, and loses all leases
        self.store_transitions()
        while self.unfinished:
            self.shard.attach("last", (), explained=True, now=self.now)
            self.shard.runners.add_credit("last", 100)
            self.attached.add("last")
            tokens = self.assign_all()
            assert tokens, "something never runs"
            for token in tokens:
                self.take(token)
            self.store_transitions()
        assert self.shard.unfinished == 0
        assert not self.shard.order_keys
        assert not [queue.flow_id for queue in self.shard.queues._flows.values() if queue.running]
        assert not self.shard.attempts
        assert not self.shard._lost.last
        assert not self.shard.leases._terms
        assert not self.shard._recovered

    @invariant()
    def nothing_is_lost(self):
        assert self.shard.unfinished == len(self.unfinished)
        for flow in FLOWS:
            assert self.shard.queues.unfinished(flow) == sum(1 for its in self.unfinished.values() if its == flow)
        assert self.shard.ready >= 0
        assert self.shard.waiting == len(self.waiting) + len(self.parking)
        assert self.shard.suspended == len(self.suspended)
        for seq in self.unfinished:
            assert self.shard.is_waiting(seq) == (seq in self.waiting or seq in self.parking)
            assert self.shard.is_suspended(seq) == (seq in self.suspended)
        elsewhere = len(self.ending) + self.shard.waiting + self.shard.suspended
        assert self.shard.ready + self.shard.leased + elsewhere == len(self.unfinished)

    @invariant()
    def leases_are_what_the_model_says(self):
        assert self.shard.leased == len(self.valid)
        for token, (seq, _) in self.valid.items():
            assert self.shard.leases.seq_of(token) == seq

    @invariant()
    def what_runs_counts(self):
        for flow, queue in self.shard.queues._flows.items():
            assert queue.running >= self.running(flow)
            held = self.shard._recovered._held.values()
            assert queue.held == sum(each.queue.flow_id == flow for each in held)

    @invariant()
    def loads_of_flows_add_up(self):
        loads = {flow: self.shard.queues.load(flow) for flow in FLOWS}
        for flow, load in loads.items():
            assert load.suspended == sum(self.unfinished[seq] == flow for seq in self.suspended)
            assert load.waiting == sum(self.unfinished[seq] == flow for seq in self.waiting)
            assert load.running >= self.running(flow)
            assert load.total == self.shard.queues.unfinished(flow)
            assert load.pending >= 0
            assert load.next is None or load.pending
        ready = [seq for queue in self.shard.queues._flows.values() for seq in list(queue.ready)[:1]]
        assert set(ready) <= {load.next for load in loads.values()}


TestShard = ShardMachine.TestCase
TestShard.settings = settings(max_examples=examples(150), stateful_step_count=50, deadline=None)
