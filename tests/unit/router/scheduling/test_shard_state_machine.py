"""The scheduling core under any sequence of calls: nothing lost, nothing twice, limits kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from router.scheduling.changes import AttemptsExhausted
from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Shard

LEASE = 6.0
REATTACH = 2.0
MAX_ATTEMPTS = 2
FLOWS = ["a", "b", "c"]
RUNNERS = ["r1", "r2"]
KEYS = ["", "x"]
EPOCH_MS = 1_700_000_000_000


@dataclass
class Record:
    """What storage has of executions: attempts charged, or under way; terms; what waits, until when; void leases."""

    attempts: dict[int, int] = field(default_factory=dict)
    begun: dict[int, int] = field(default_factory=dict)
    terms: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, int | None] = field(default_factory=dict)
    void: set[bytes] = field(default_factory=set)

    def begin(self, seq, attempt):
        self.begun[seq] = attempt
        self.waiting.pop(seq, None)

    def stop(self, seq, attempts, *, term=0, token=None):
        """Write down that an execution is worked on no more; its lease, if it lost one, is void from here on."""
        self.attempts[seq] = attempts
        self.terms[seq] = max(term, self.terms.get(seq, 0))
        self.begun.pop(seq, None)
        self.waiting.pop(seq, None)
        if token is not None:
            self.void.add(token)


class ShardMachine(RuleBasedStateMachine):
    """Drives a shard beside a model that only knows which executions are unfinished, and who works on them."""

    tokens = Bundle("tokens")

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.epoch = 1
        self.seq = 0
        self.unfinished: dict[int, str] = {}
        self.keys: dict[int, str] = {}
        self.parking: dict[int, int | None] = {}
        self.waiting: dict[int, int | None] = {}
        self.suspended: set[int] = set()
        self.attempts: dict[int, int] = {}
        self.ending: set[int] = set()
        self.returning: set[int] = set()
        self.delivering: dict[int, int | None] = {}
        self.record = Record()
        self.recovered = 0
        self.begun: set[int] = set()
        self.valid: dict[bytes, tuple[int, str]] = {}
        self.handed_out: dict[bytes, tuple[int, str, int]] = {}
        self.latest: dict[int, bytes] = {}
        self.attached: set[str] = set()
        self.policies: dict[str, FlowPolicy] = {}
        self.under_way: Counter[str] = Counter()
        self.shard = self.make()

    def make(self):
        return Shard(
            epoch=self.epoch,
            lease_seconds=LEASE,
            max_attempts=MAX_ATTEMPTS,
            reattach_seconds=REATTACH,
        )

    def lost(self, losses):
        for loss in losses:
            assert loss.seq in self.unfinished
            self.attempts[loss.seq] = loss.attempts
            self.valid = {token: (seq, runner) for token, (seq, runner) in self.valid.items() if seq != loss.seq}
            if isinstance(loss, AttemptsExhausted):
                assert loss.attempts >= MAX_ATTEMPTS
                self.ending.add(loss.seq)
            else:
                self.returning.add(loss.seq)

    def running(self, flow):
        return sum(self.unfinished[seq] == flow for seq, _ in self.valid.values())

    def concurrency(self, flow):
        return self.policies.get(flow, FlowPolicy()).concurrency

    @property
    def now_ms(self):
        return EPOCH_MS + int(self.now * 1000)

    def its_turn(self, seq):
        flow, key = self.unfinished[seq], self.keys[seq]
        lane = [its for its, other in self.unfinished.items() if other == flow and self.keys[its] == key]
        return not key or seq == min(lane)

    @rule(flow=strategies.sampled_from(FLOWS), key=strategies.sampled_from(KEYS), count=strategies.integers(1, 3))
    def accept_some(self, flow, key, count):
        for _ in range(count):
            self.accept(flow, key)

    def accept(self, flow, key):
        self.seq += 1
        self.unfinished[self.seq] = flow
        self.keys[self.seq] = key
        self.shard.accept(self.seq, flow, key)

    @rule(
        flow=strategies.sampled_from(FLOWS),
        concurrency=strategies.sampled_from([None, 1, 2]),
        paused=strategies.booleans(),
    )
    def set_policy(self, flow, concurrency, paused):
        self.policies[flow] = FlowPolicy(concurrency, paused)
        self.shard.set_policy(flow, self.policies[flow])

    @rule(
        runner=strategies.sampled_from(RUNNERS),
        explained=strategies.booleans(),
        credit=strategies.sampled_from([0, 3]),
        data=strategies.data(),
    )
    def attach(self, runner, explained, credit, data):
        known = sorted(token for token, (_, owner, _) in self.handed_out.items() if owner == runner)
        held = data.draw(strategies.lists(strategies.sampled_from(known), unique=True)) if known else []
        self.come(runner, held, explained=explained, credit=credit)

    def come(self, runner, held, *, explained=True, credit=5):
        """Have a runner attach with tokens that it holds, or held long ago."""
        mine = sorted(token for token, (_, owner) in self.valid.items() if owner == runner)
        attached = self.shard.attach(runner, held, explained=explained, now=self.now)
        self.attached.add(runner)
        self.pardon(attached, explained=explained)
        assert set(attached.kept) <= set(held)
        for token in set(attached.kept).difference(mine):
            seq, _, epoch = self.handed_out[token]
            assert epoch < self.epoch
            assert token not in self.record.void, "it was given up"
            assert self.latest[seq] == token, "somebody else had it in between"
            assert seq in self.unfinished
            assert seq not in self.ending
            assert seq not in self.suspended
            assert seq not in {its for its, _ in self.valid.values()}, "adopted twice"
            assert seq in attached.adopted
            self.valid[token] = (seq, runner)
            self.waiting.pop(seq, None)
            if seq in self.begun:
                self.attempts[seq] -= 1
                self.begun.discard(seq)
            assert self.shard.leases.attempt_of(seq) == self.attempts.get(seq, 0) + 1
            flow = self.unfinished[seq]
            concurrency = self.concurrency(flow)
            assert concurrency is None or self.running(flow) <= max(concurrency, self.under_way[flow])
        assert len(attached.adopted) == len(set(attached.kept).difference(mine))
        for token in set(mine) - set(attached.kept):
            self.valid.pop(token, None)
        self.lost(attached.losses)
        assert not credit or self.shard.runners.add_credit(runner, credit)

    def pardon(self, attached, *, explained):
        assert explained or not attached.refunded
        for seq in attached.refunded:
            assert seq in self.unfinished
            assert seq not in self.ending
            self.attempts[seq] -= 1
            assert self.attempts[seq] >= 0

    @rule(token=tokens, final=strategies.booleans())
    def report_late_failure(self, token, final):
        _, runner, _ = self.handed_out[token]
        confessed = self.shard.losses.report_late_failure(runner, token, final=final)
        if confessed is None:
            return
        seq, attempts, is_ending, newer = confessed
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
            self.forget_places(seq)
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
    def cut_off(self, flow, runner):
        """A runner gets work and is cut off, and another one gets that work: rarely hit upon step by step."""
        (other,) = set(RUNNERS) - {runner}
        for each in (runner, other):
            mine = [token for token, (_, owner) in self.valid.items() if owner == each]
            self.pardon(self.shard.attach(each, mine, explained=True, now=self.now), explained=True)
            self.attached.add(each)
        self.set_policy(flow, None, paused=False)
        self.accept(flow, "")
        self.add_credit(runner, 5)
        handed_out = list(self.hand_out())
        self.detach(runner)
        self.pass_time(REATTACH)
        self.become_durable()
        if other in self.attached:
            self.add_credit(other, 5)
        return multiple(*handed_out, *self.hand_out())

    @rule(
        target=tokens,
        flow=strategies.sampled_from(FLOWS),
        runner=strategies.sampled_from(RUNNERS),
        concurrency=strategies.sampled_from([1, 2]),
        waits=strategies.booleans(),
        data=strategies.data(),
    )
    def outlive_the_router(self, flow, runner, concurrency, waits, data):
        """A runner comes back after a restart only when another one had its chance."""
        (other,) = set(RUNNERS) - {runner}
        self.set_policy(flow, concurrency, paused=False)
        self.come(runner, [token for token, (_, owner) in self.valid.items() if owner == runner])
        self.accept(flow, "")
        held = self.hand_out()
        if waits:
            for token in held:
                self.park(token, -1.0)
            self.become_durable()
            self.wake()
            held += self.hand_out()
        self.restart(back=[other], data=data)
        self.accept(flow, "")
        held += self.hand_out()
        self.come(runner, [token for token in held if self.handed_out[token][1] == runner])
        return multiple(*held, *self.hand_out())

    @rule(target=tokens)
    def assign(self):
        return multiple(*self.hand_out())

    def hand_out(self):
        """Assign what can be, and return the tokens."""
        assigned = self.shard.assign()
        busy = {seq for seq, _ in self.valid.values()}
        for item in assigned:
            assert item.runner_id in self.attached
            assert item.seq in self.unfinished
            assert item.seq not in self.ending
            assert item.seq not in self.returning
            assert item.seq not in busy, "assigned twice"
            assert item.seq not in self.parking
            assert item.seq not in self.waiting
            assert item.seq not in self.suspended
            assert self.its_turn(item.seq), "assigned before an earlier one of its key has ended"
            assert item.token not in self.valid
            assert item.attempt == self.attempts.get(item.seq, 0) + 1
            busy.add(item.seq)
            self.valid[item.token] = (item.seq, item.runner_id)
            self.handed_out[item.token] = (item.seq, item.runner_id, self.epoch)
            self.latest[item.seq] = item.token
            self.begun.discard(item.seq)
            if item.seq <= self.recovered:
                self.record.begin(item.seq, item.attempt)
                self.record.terms[item.seq] = self.shard.leases.term_of(item.seq)
            flow = self.unfinished[item.seq]
            policy = self.policies.get(flow, FlowPolicy())
            assert not policy.paused
            assert policy.concurrency is None or self.running(flow) <= policy.concurrency
        return [item.token for item in assigned]

    @rule()
    def write_down(self):
        """Attempts last."""
        for seq, _ in self.valid.values():
            self.record.begin(seq, self.shard.leases.attempt_of(seq))

    @rule(token=tokens)
    def take(self, token):
        taken = self.shard.take(token)
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
        """What some executions wait for comes; others of those who are told do not wait."""
        if not self.unfinished:
            return
        seqs = data.draw(strategies.lists(strategies.sampled_from(sorted(self.unfinished)), unique=True, max_size=3))
        delivered = self.shard.deliver(seqs)
        assert [(each.seq, each.attempts) for each in delivered] == [
            (seq, self.attempts.get(seq, 0)) for seq in seqs if seq in self.waiting
        ]
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
            self.forget_places(seq)
            self.ending.add(seq)

    @rule(data=strategies.data())
    def suspend(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        if seq in self.parking or seq in self.returning:
            self.write_down_stop(seq)  # what was first is on record first
        withdrawn = self.shard.suspend(seq, self.unfinished[seq])
        assert (withdrawn is None) == (seq in self.ending or seq in self.suspended)
        if withdrawn is not None:
            leased = next((token for token, (its, _) in self.valid.items() if its == seq), None)
            assert (withdrawn.lease and withdrawn.lease.token) == leased
            self.valid.pop(leased, None)
            self.attempts[seq] = withdrawn.attempts
            self.record.stop(
                seq, withdrawn.attempts, term=self.shard.leases.term_of(seq) if leased else 0, token=leased
            )
            self.forget_places(seq)
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
        loss = self.shard.release(token, charged=charged, to_back=to_back)
        assert (loss is not None) == (token in self.valid)
        if loss is not None:
            self.lost([loss])

    @rule(data=strategies.data())
    def cancel(self, data):
        if not self.unfinished:
            return
        seq = data.draw(strategies.sampled_from(sorted(self.unfinished)))
        cancelled = self.shard.cancel(seq, self.unfinished[seq])
        assert (cancelled is None) == (seq in self.ending)
        self.valid = {token: (its, runner) for token, (its, runner) in self.valid.items() if its != seq}
        self.forget_places(seq)
        self.ending.add(seq)

    def forget_places(self, seq):
        self.returning.discard(seq)
        self.delivering.pop(seq, None)
        self.parking.pop(seq, None)
        self.waiting.pop(seq, None)
        self.suspended.discard(seq)

    def write_down_stop(self, seq):
        if seq in self.delivering:
            self.record.stop(seq, self.attempts.get(seq, 0))
        else:
            self.record.stop(seq, self.attempts[seq], term=self.shard.leases.term_of(seq), token=self.latest[seq])

    @rule()
    def become_durable(self):
        for seq, wake_at_ms in self.parking.items():
            self.shard.parked(seq, wake_at_ms)
            self.waiting[seq] = wake_at_ms
            self.write_down_stop(seq)
            self.record.waiting[seq] = wake_at_ms
        self.parking.clear()
        self.shard.requeued(self.returning)
        for seq in self.returning:
            self.write_down_stop(seq)
        self.returning.clear()
        self.delivering.clear()
        for seq in self.ending:
            self.shard.ended(seq)
            del self.unfinished[seq]
        self.ending.clear()

    @rule(seconds=strategies.sampled_from([0.1, 1.0, 3.0, 7.0]))
    def pass_time(self, seconds):
        self.now += seconds
        expired = self.shard.expire(self.now)
        self.attached.difference_update(expired.silent)
        self.lost(expired.losses)
        deadline = self.shard.next_deadline()
        assert deadline is None or deadline > self.now
        self.wake()

    def wake(self):
        woken = self.shard.wake(self.now_ms)
        assert sorted(woken) == sorted(seq for seq, at in self.waiting.items() if at is not None and at <= self.now_ms)
        for seq in woken:
            del self.waiting[seq]
        times = [at for at in self.waiting.values() if at is not None]
        assert self.shard.next_wake() == min(times, default=None)

    @rule(
        back=strategies.lists(strategies.sampled_from(RUNNERS), unique=True),
        data=strategies.data(),
    )
    def restart(self, back, data):
        """The router dies: what is on record is all there is.

        Then runners come `back` with what they hold, or held long ago.
        """
        self.epoch += 1
        # what runners work on they may go on with, although the flow's limit is lower by now
        self.under_way = Counter(
            flow for seq, flow in self.unfinished.items() if self.latest.get(seq, b"") not in self.record.void | {b""}
        )
        self.ending.clear()
        self.returning.clear()
        self.delivering.clear()
        self.parking.clear()
        self.attached.clear()
        self.waiting = {seq: at for seq, at in self.record.waiting.items() if seq in self.unfinished}
        self.attempts = {seq: self.record.attempts.get(seq, 0) for seq in self.unfinished}
        self.begun = {seq for seq in self.record.begun if seq in self.unfinished}
        self.attempts |= {seq: self.record.begun[seq] for seq in self.begun}
        self.recovered = self.seq
        self.shard = self.make()
        for flow, policy in self.policies.items():
            self.shard.set_policy(flow, policy)
        for seq, flow in self.unfinished.items():
            self.recover(seq, flow)
        self.shard.begin(self.now)
        # until their runner shows them, tokens are good for nothing
        self.valid = {}
        for runner in back:
            self.attach(runner, explained=True, credit=3, data=data)

    def recover(self, seq, flow):
        attempts, key, term = self.attempts[seq], self.keys[seq], self.record.terms.get(seq, 0)
        if seq in self.suspended:
            self.shard.recover_suspended(seq, flow, attempts, term=term, order_key=key)
        elif seq in self.waiting:
            self.shard.recover_waiting(seq, flow, attempts + 1, self.waiting[seq], term=term, order_key=key)
        elif self.shard.recover(seq, flow, attempts, begun=seq in self.begun, term=term, order_key=key) is not None:
            self.ending.add(seq)

    def teardown(self):
        """Whatever happened: once nothing stands in its way, everything ends."""
        self.become_durable()
        self.policies.clear()
        for flow in FLOWS:
            self.shard.set_policy(flow, FlowPolicy())
        for seq in sorted(self.suspended):
            assert self.shard.resume(seq)
        self.suspended.clear()
        for seq in [seq for seq, wake_at_ms in self.waiting.items() if wake_at_ms is None]:
            assert self.shard.cancel(seq, self.unfinished[seq])
            del self.waiting[seq]
            self.ending.add(seq)
        self.become_durable()
        self.pass_time(10.0)  # wakes what waits, and loses all leases
        self.become_durable()
        while self.unfinished:
            self.shard.attach("last", (), explained=True, now=self.now)
            self.shard.runners.add_credit("last", 100)
            self.attached.add("last")
            tokens = self.hand_out()
            assert tokens, "something never runs"
            for token in tokens:
                self.take(token)
            self.become_durable()
        assert self.shard.unfinished == 0
        assert not self.shard._order_keys
        assert not [queue.flow_id for queue in self.shard._queues._flows.values() if queue.running]
        assert not self.shard.attempts
        assert not self.shard._lost
        assert not self.shard.leases._terms
        assert not self.shard._recovered

    @invariant()
    def nothing_is_lost(self):
        assert self.shard.unfinished == len(self.unfinished)
        for flow in FLOWS:
            assert self.shard.backlog(flow) == sum(1 for its in self.unfinished.values() if its == flow)
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
        for flow, queue in self.shard._queues._flows.items():
            assert queue.running >= self.running(flow)
            assert queue.held == self.shard._recovered.held_of(flow)


TestShard = ShardMachine.TestCase
TestShard.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
