"""Leases of executions to runners, the runners, and what operations of the scheduling core change in both.

A lease token is 24 bytes: the shard's epoch (4), a term (4), a number (8) and the execution's sequence number (8),
big-endian. The *term* counts the void leases on an execution, as far as it matters to anyone: that a lease is void is
stored before the next lease, of a later term, is granted.

A runner that was attached when a router died presents its tokens to the next router. That one *adopts* the leases of
the stored term, unless another runner works on the execution: no other runner ever had it. This holds over any number
of restarts, because executions found at a start are assigned under a new term, stored before the runner is notified.
The first lease of a new execution, of term 0, needs no record. Leases of epochs before the *fence* are of a state that
was lost and replaced by a backup: no router adopts them.

Leases are renewed and expire per runner, so a renewal costs nothing per execution. A runner is lost when it sends
nothing for the duration of a lease, or does not reattach soon after its stream ended.

The caller makes results of operations durable before it reports them to anyone; see `shard`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import attrs

from flowhook.attach.send_pacing import QUIET
from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.queues import FlowQueue

_TOKEN: Final = struct.Struct(">IIQQ")

MAX_CREDIT: Final = 4096  # credit that a runner may have outstanding


@dataclass(slots=True)
class Lease:
    """One attempt at one execution; `assigned_ms` is the Unix time at which it was assigned, 0 if that is unknown."""

    token: bytes
    seq: int
    queue: FlowQueue
    runner: Runner
    attempt: int
    assigned_ms: int = 0

    @property
    def is_quiet(self) -> bool:
        """Whether the flow has few executions running (at most `QUIET`)."""
        return self.queue.running <= QUIET

    def as_attempt(self, end: AttemptEnd | None = None, detail: str = "", *, charged: bool = False) -> Attempt:
        return Attempt(self.attempt, self.runner.id, self.assigned_ms or None, None, end, detail, charged)


@dataclass(slots=True, eq=False)
class Runner:
    """An attached runner, or a detached one that may reattach until `deadline` (s)."""

    id: str
    deadline: float
    attached: bool = True
    credit: int = 0
    leases: dict[bytes, Lease] = field(default_factory=dict)


class LeaseTable:
    """The valid leases of a shard, at most one for each execution, and the terms of its executions.

    A lease is listed here and in the `leases` of its runner, or in neither.
    """

    def __init__(self, epoch: int, fence: int = 0) -> None:
        self._epoch = epoch & 0xFFFFFFFF
        self._fence = fence & 0xFFFFFFFF
        self._granted = 0
        self._by_token: dict[bytes, Lease] = {}
        self._by_seq: dict[int, Lease] = {}
        self._terms: dict[int, int] = {}
        self._recovered_up_to = 0

    def __len__(self) -> int:
        return len(self._by_token)

    def get(self, token: bytes) -> Lease | None:
        return self._by_token.get(token)

    def seq_of(self, token: bytes) -> int | None:
        lease = self._by_token.get(token)
        return None if lease is None else lease.seq

    def of(self, seq: int) -> Lease | None:
        return self._by_seq.get(seq)

    def attempt_of(self, seq: int) -> int | None:
        lease = self._by_seq.get(seq)
        return None if lease is None else lease.attempt

    def grant(self, seq: int, queue: FlowQueue, runner: Runner, attempt: int, now_ms: int = 0) -> Lease:
        """Lease an execution that has none, under its current term; no other lease of the shard ever has its token."""
        self._granted += 1
        token = _TOKEN.pack(self._epoch, self.term_of(seq) & 0xFFFFFFFF, self._granted, seq)
        lease = Lease(token, seq, queue, runner, attempt, now_ms)
        self._by_token[token] = self._by_seq[seq] = runner.leases[token] = lease
        return lease

    def adopt(self, token: bytes, seq: int, queue: FlowQueue, runner: Runner, attempt: int) -> None:
        """Make a token of an earlier epoch valid again, see `claimable_by`."""
        self._by_token[token] = self._by_seq[seq] = runner.leases[token] = Lease(token, seq, queue, runner, attempt)

    def release(self, token: bytes) -> Lease | None:
        """Remove a lease whose execution ends; None when the token is stale."""
        lease = self._by_token.pop(token, None)
        if lease is not None:
            del self._by_seq[lease.seq], lease.runner.leases[token]
        return lease

    def void(self, token: bytes) -> Lease | None:
        """Remove a lease and start a new term of its execution, which is to be stored; None when the token is stale."""
        lease = self.release(token)
        if lease is not None:
            self._terms[lease.seq] = self.term_of(lease.seq) + 1
        return lease

    def recover(self, seq: int, term: int) -> None:
        """Add an execution found at a start, by ascending `seq`; its leases are of later terms than the stored one."""
        self._recovered_up_to = seq
        if term:
            self._terms[seq] = term + 1

    def is_recovered(self, seq: int) -> bool:
        return seq <= self._recovered_up_to

    def term_of(self, seq: int) -> int:
        """Return the term of an execution's current or next lease; leases of earlier terms are void."""
        term = self._terms.get(seq)
        return int(seq <= self._recovered_up_to) if term is None else term

    def claimable_by(self, token: bytes) -> int | None:
        """Return the execution that a token of an earlier epoch is good for, unless it was leased since; else None."""
        if len(token) != _TOKEN.size:
            return None
        epoch, term, _, seq = _TOKEN.unpack(token)
        if not self._fence <= epoch < self._epoch or not self.is_recovered(seq) or term + 1 != self.term_of(seq):
            return None
        return int(seq)

    def forget(self, seq: int) -> None:
        self._terms.pop(seq, None)


@attrs.define(eq=False, repr=False, kw_only=True)
class RunnerTable:
    """Runners by ID. A detached runner has no credit."""

    _lease_seconds: float  # how long a runner may be silent before it is lost
    _reattach_seconds: float  # how long a detached runner may take to reattach
    _runners: dict[str, Runner] = attrs.field(init=False, factory=dict)

    def attach(self, runner_id: str, now: float) -> Runner:
        """Add a runner, or let one reattach; its credit starts at 0."""
        runner = self._runners.get(runner_id)
        if runner is None:
            runner = self._runners[runner_id] = Runner(runner_id, now + self._lease_seconds)
        runner.attached, runner.credit, runner.deadline = True, 0, now + self._lease_seconds
        return runner

    def detach(self, runner_id: str, now: float) -> None:
        """Record that a runner's stream ended; its leases stay valid until the reattach deadline."""
        runner = self._runners.get(runner_id)
        if runner is not None:
            runner.attached, runner.credit = False, 0
            runner.deadline = min(runner.deadline, now + self._reattach_seconds)

    def renew(self, runner_id: str, now: float) -> None:
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.deadline = now + self._lease_seconds

    def lease_count(self, runner_id: str) -> int:
        runner = self._runners.get(runner_id)
        return 0 if runner is None else len(runner.leases)

    def credit(self, runner_id: str) -> int:
        runner = self._runners.get(runner_id)
        return 0 if runner is None else runner.credit

    def add_credit(self, runner_id: str, credit: int) -> bool:
        """Grant a runner more assignments; false when it is not attached or the total would exceed `MAX_CREDIT`."""
        runner = self._runners.get(runner_id)
        if runner is None or not runner.attached or credit < 1 or runner.credit + credit > MAX_CREDIT:
            return False
        runner.credit += credit
        return True

    def return_credit(self, runner_id: str) -> None:
        """Restore the credit for an assignment that never reached the runner, on the stream that granted it."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.credit = min(runner.credit + 1, MAX_CREDIT)

    @property
    def slots(self) -> int:
        """Executions that all runners can work on at a time: those they have, and their credit."""
        return sum(runner.credit + len(runner.leases) for runner in self._runners.values())

    def with_credit(self, full: Collection[str]) -> list[Runner]:
        return [runner for runner in self._runners.values() if runner.credit and runner.id not in full]

    @property
    def deadline(self) -> float | None:
        """The earliest time at which a runner is lost unless it renews or reattaches, or None."""
        return min((runner.deadline for runner in self._runners.values()), default=None)

    def silent(self, now: float) -> list[str]:
        """Return the IDs of attached runners that `expire` would remove; the caller ends their streams before."""
        return [runner.id for runner in self._runners.values() if runner.deadline <= now and runner.attached]

    def expire(self, now: float) -> list[Runner]:
        """Remove and return the lost runners. The caller takes their leases away."""
        lost = [runner for runner in self._runners.values() if runner.deadline <= now]
        for runner in lost:
            del self._runners[runner.id]
        return lost


class Loss(NamedTuple):
    """What becomes of an execution whose lease was lost, or that no runner could finish; to be stored.

    Once that is durable, call `requeued` for one that is *returning*. One that is `exhausted` has used up its attempts,
    and is *ending*: the caller faults it, then calls `ended`.
    """

    seq: int
    attempts: int  # those charged so far
    interrupted: Attempt | None = None  # the attempt that ended by it, without its end time; None: there was none
    exhausted: bool = False


class LeasesExpired(NamedTuple):
    """Effects of time passing."""

    losses: list[Loss]  # what became of executions whose lease expired
    # executions with the attempt that was in progress when the router ended; they are ready again
    unclaimed: list[tuple[int, Attempt]]


class AttachResult(NamedTuple):
    """Effects of a runner attaching."""

    kept: list[bytes]  # tokens that are still valid
    losses: list[Loss]  # what became of the other executions the runner held
    refunded: list[int]  # executions whose charge for the runner's absence was refunded
    adopted: list[int]  # executions the runner had before a restart and continues


class LateFailure(NamedTuple):
    """An execution that caused the loss of its own lease, as its runner reported later."""

    seq: int
    attempts: int  # those charged so far
    is_ending: bool  # whether the execution must end for it: it is *ending*; the caller faults it, then calls `ended`
    # a newer lease on the execution that was broken for this reason; its runner must be notified
    lease: Lease | None = None


class Removed(NamedTuple):
    """An execution an operator removed: the attempts charged to it, and the lease that was broken, if any."""

    attempts: int
    lease: Lease | None
