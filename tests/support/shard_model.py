"""A model of a shard beside the real one: it knows which executions are unfinished, and who works on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis.stateful import RuleBasedStateMachine

from flowhook.model import Status
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
class StoredExecutions:
    """What storage has of executions: attempts charged, or begun; terms; waiting ones, until when; void leases."""

    attempts: dict[int, int] = field(default_factory=dict)
    begun: dict[int, int] = field(default_factory=dict)
    terms: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, int | None] = field(default_factory=dict)
    void: set[bytes] = field(default_factory=set)

    def begin(self, seq, attempt):
        self.begun[seq] = attempt
        self.waiting.pop(seq, None)

    def stop(self, seq, attempts, *, term=0, token=None):
        """Store that nobody works on an execution any more; its lease, if it lost one, is void from here on."""
        self.attempts[seq] = attempts
        self.terms[seq] = max(term, self.terms.get(seq, 0))
        self.begun.pop(seq, None)
        self.waiting.pop(seq, None)
        if token is not None:
            self.void.add(token)


class ShardModel(RuleBasedStateMachine):
    """A shard, what is expected of it, and steps that change both and compare them."""

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
        self.stored = StoredExecutions()
        self.recovered = 0
        self.begun: set[int] = set()
        self.valid: dict[bytes, tuple[int, str]] = {}
        self.assigned_tokens: dict[bytes, tuple[int, str, int]] = {}
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

    def expect_losses(self, losses):
        for loss in losses:
            assert loss.seq in self.unfinished
            if loss.interrupted is not None:
                assert loss.attempts == loss.interrupted.number - (not loss.interrupted.charged)
            self.attempts[loss.seq] = loss.attempts
            self.valid = {token: (seq, runner) for token, (seq, runner) in self.valid.items() if seq != loss.seq}
            if loss.exhausted:
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

    def is_its_turn(self, seq):
        flow, key = self.unfinished[seq], self.keys[seq]
        lane = [its for its, other in self.unfinished.items() if other == flow and self.keys[its] == key]
        return not key or seq == min(lane)

    def accept(self, flow, key):
        self.seq += 1
        self.unfinished[self.seq] = flow
        self.keys[self.seq] = key
        self.shard.accept(self.seq, flow, key)

    def attach_runner(self, runner, held, *, explained=True, credit=5):
        """Attach a runner with tokens that it holds, or held long ago."""
        mine = sorted(token for token, (_, owner) in self.valid.items() if owner == runner)
        attached = self.shard.attach(runner, held, explained=explained, now=self.now)
        self.attached.add(runner)
        self.expect_refunds(attached, explained=explained)
        assert set(attached.kept) <= set(held)
        for token in set(attached.kept).difference(mine):
            seq, _, epoch = self.assigned_tokens[token]
            assert epoch < self.epoch
            assert token not in self.stored.void, "it was given up"
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
        self.expect_losses(attached.losses)
        assert not credit or self.shard.runners.add_credit(runner, credit)

    def expect_refunds(self, attached, *, explained):
        assert explained or not attached.refunded
        for seq in attached.refunded:
            assert seq in self.unfinished
            assert seq not in self.ending
            self.attempts[seq] -= 1
            assert self.attempts[seq] >= 0

    def assign_all(self):
        """Assign what can be, and return the tokens."""
        assigned = self.shard.assign()
        busy = {seq for seq, _ in self.valid.values()}
        for item in assigned:
            assert item.runner.id in self.attached
            assert item.seq in self.unfinished
            assert item.seq not in self.ending
            assert item.seq not in self.returning
            assert item.seq not in busy, "assigned twice"
            assert item.seq not in self.parking
            assert item.seq not in self.waiting
            assert item.seq not in self.suspended
            assert self.is_its_turn(item.seq), "assigned before an earlier one of its key has ended"
            assert item.token not in self.valid
            assert item.attempt == self.attempts.get(item.seq, 0) + 1
            busy.add(item.seq)
            self.valid[item.token] = (item.seq, item.runner.id)
            self.assigned_tokens[item.token] = (item.seq, item.runner.id, self.epoch)
            self.latest[item.seq] = item.token
            self.begun.discard(item.seq)
            if item.seq <= self.recovered:
                self.stored.begin(item.seq, item.attempt)
                self.stored.terms[item.seq] = self.shard.leases.term_of(item.seq)
            flow = self.unfinished[item.seq]
            policy = self.policies.get(flow, FlowPolicy())
            assert not policy.paused
            assert policy.concurrency is None or self.running(flow) <= policy.concurrency
        return [item.token for item in assigned]

    def leave_states(self, seq):
        self.returning.discard(seq)
        self.delivering.pop(seq, None)
        self.parking.pop(seq, None)
        self.waiting.pop(seq, None)
        self.suspended.discard(seq)

    def store_stop(self, seq):
        if seq in self.delivering:
            self.stored.stop(seq, self.attempts.get(seq, 0))
        else:
            self.stored.stop(seq, self.attempts[seq], term=self.shard.leases.term_of(seq), token=self.latest[seq])

    def wake(self):
        woken = self.shard.wake(self.now_ms)
        assert sorted(woken) == sorted(seq for seq, at in self.waiting.items() if at is not None and at <= self.now_ms)
        for seq in woken:
            del self.waiting[seq]
        times = [at for at in self.waiting.values() if at is not None]
        assert self.shard.next_wake() == min(times, default=None)

    def recover(self, seq, flow):
        attempts, key, term = self.attempts[seq], self.keys[seq], self.stored.terms.get(seq, 0)
        status, wake_at_ms = Status.PENDING, None
        if seq in self.suspended:
            status = Status.SUSPENDED
        elif seq in self.waiting:
            status, attempts, wake_at_ms = Status.WAITING, attempts + 1, self.waiting[seq]
        elif seq in self.begun:
            status = Status.RUNNING
        lost = self.shard.recover(seq, flow, attempts, status=status, wake_at_ms=wake_at_ms, term=term, order_key=key)
        if lost is not None:
            self.ending.add(seq)
