"""The scheduling core under any sequence of calls: nothing lost, nothing twice, limits kept."""

from __future__ import annotations

from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from router.scheduling.queues import FlowPolicy
from router.scheduling.shard import Exhausted, Shard

LEASE = 6.0
REATTACH = 2.0
MAX_ATTEMPTS = 2
FLOWS = ["a", "b", "c"]
RUNNERS = ["r1", "r2"]


class ShardMachine(RuleBasedStateMachine):
    """Drives a shard beside a model that only knows which executions are unfinished, and who works on them."""

    tokens = Bundle("tokens")

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.epoch = 1
        self.seq = 0
        self.unfinished: dict[int, str] = {}
        self.attempts: dict[int, int] = {}
        self.ending: set[int] = set()
        self.returning: set[int] = set()
        self.requeued: set[int] = set()
        self.valid: dict[bytes, tuple[int, str]] = {}
        self.handed_out: dict[bytes, tuple[int, str, int]] = {}
        self.latest: dict[int, bytes] = {}
        self.attached: set[str] = set()
        self.policies: dict[str, FlowPolicy] = {}
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
            if isinstance(loss, Exhausted):
                assert loss.attempts >= MAX_ATTEMPTS
                self.ending.add(loss.seq)
            else:
                self.returning.add(loss.seq)

    @rule(flow=strategies.sampled_from(FLOWS))
    def accept(self, flow):
        self.seq += 1
        self.unfinished[self.seq] = flow
        self.shard.accept(self.seq, flow)

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
        mine = sorted(token for token, (_, owner) in self.valid.items() if owner == runner)
        known = sorted(token for token, (_, owner, _) in self.handed_out.items() if owner == runner)
        held = data.draw(strategies.lists(strategies.sampled_from(known), unique=True)) if known else []
        attached = self.shard.attach(runner, held, explained=explained, now=self.now)
        self.attached.add(runner)
        assert set(attached.kept) <= set(held)
        for token in set(attached.kept).difference(mine):
            seq, _, epoch = self.handed_out[token]
            assert epoch == self.epoch - 1
            assert self.latest[seq] == token, "somebody else had it in between"
            assert seq in self.unfinished
            assert seq not in self.ending
            assert seq not in {its for its, _ in self.valid.values()}, "adopted twice"
            self.valid[token] = (seq, runner)
        for token in set(mine) - set(attached.kept):
            self.valid.pop(token, None)
        self.lost(attached.losses)
        assert not credit or self.shard.add_credit(runner, credit)

    @rule(runner=strategies.sampled_from(RUNNERS))
    def detach(self, runner):
        self.shard.detach(runner, self.now)
        self.attached.discard(runner)

    @rule(runner=strategies.sampled_from(RUNNERS), credit=strategies.integers(1, 5))
    def add_credit(self, runner, credit):
        assert self.shard.add_credit(runner, credit) == (runner in self.attached)

    @rule(runner=strategies.sampled_from(RUNNERS))
    def renew(self, runner):
        self.shard.renew(runner, self.now)

    @rule(target=tokens, flow=strategies.sampled_from(FLOWS), runner=strategies.sampled_from(RUNNERS))
    def cut_off(self, flow, runner):
        """A runner gets work and is cut off, and another one gets that work: rarely hit upon step by step."""
        (other,) = set(RUNNERS) - {runner}
        for each in (runner, other):
            mine = [token for token, (_, owner) in self.valid.items() if owner == each]
            self.shard.attach(each, mine, explained=True, now=self.now)
            self.attached.add(each)
        self.set_policy(flow, None, paused=False)
        self.accept(flow)
        self.add_credit(runner, 5)
        handed_out = list(self.hand_out())
        self.detach(runner)
        self.pass_time(REATTACH)
        self.become_durable()
        if other in self.attached:
            self.add_credit(other, 5)
        return multiple(*handed_out, *self.hand_out())

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
            assert item.token not in self.valid
            assert item.attempt == self.attempts.get(item.seq, 0) + 1
            busy.add(item.seq)
            self.valid[item.token] = (item.seq, item.runner_id)
            self.handed_out[item.token] = (item.seq, item.runner_id, self.epoch)
            self.latest[item.seq] = item.token
            policy = self.policies.get(self.unfinished[item.seq], FlowPolicy())
            assert not policy.paused
        return [item.token for item in assigned]

    @rule(token=tokens)
    def take(self, token):
        taken = self.shard.take(token)
        assert (taken is not None) == (token in self.valid)
        if taken is not None:
            assert self.valid.pop(token)[0] == taken.seq
            self.ending.add(taken.seq)

    @rule(token=tokens, charged=strategies.booleans())
    def release(self, token, charged):
        loss = self.shard.release(token, charged=charged)
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
        self.ending.add(seq)
        self.returning.discard(seq)

    @rule()
    def become_durable(self):
        self.shard.requeued(self.returning)
        self.requeued |= self.returning
        self.returning.clear()
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

    @rule(
        forget=strategies.booleans(),
        back=strategies.lists(strategies.sampled_from(RUNNERS), unique=True),
        data=strategies.data(),
    )
    def restart(self, forget, back, data):
        """The router dies: what was ending is found unfinished, and attempts may not have been written down.

        Then runners come `back` with what they hold, or held long ago.
        """
        self.epoch += 1
        self.ending.clear()
        self.returning.clear()
        self.attached.clear()
        if forget:
            self.attempts.clear()
        self.shard = self.make()
        for flow, policy in self.policies.items():
            self.shard.set_policy(flow, policy)
        for seq, flow in self.unfinished.items():
            loss = self.shard.recover(seq, flow, self.attempts.get(seq, 0), requeued=seq in self.requeued)
            if loss is not None:
                self.ending.add(seq)
        self.shard.begin(self.now)
        # until their runner shows them, tokens are good for nothing
        self.valid = {}
        for runner in back:
            self.attach(runner, explained=True, credit=3, data=data)

    @invariant()
    def nothing_is_lost(self):
        assert self.shard.unfinished == len(self.unfinished)
        for flow in FLOWS:
            assert self.shard.backlog(flow) == sum(1 for its in self.unfinished.values() if its == flow)
        assert self.shard.ready + self.shard.leased + len(self.ending) == len(self.unfinished)

    @invariant()
    def leases_are_what_the_model_says(self):
        assert self.shard.leased == len(self.valid)
        for token, (seq, _) in self.valid.items():
            assert self.shard.lease_of(token) == seq

    @invariant()
    def concurrency_is_kept_when_it_was_not_lowered(self):
        for flow, queue in self.shard._queues._flows.items():
            running = sum(1 for seq, _ in self.valid.values() if self.unfinished[seq] == flow)
            assert queue.running >= running


TestShard = ShardMachine.TestCase
TestShard.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
