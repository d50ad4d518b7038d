"""Leases of executions to runners, and their fencing tokens.

A lease token is 24 bytes: the shard's epoch (4), a term (4), a number (8) and the execution's sequence number (8),
big-endian. The *term* counts the void leases on an execution, as far as it matters to anyone: that a lease is void is
stored before the next lease, of a later term, is granted.

A runner that was attached when a router died presents its tokens to the next router. That one *adopts* the leases of
the stored term, unless another runner works on the execution: no other runner ever had it. This holds over any number
of restarts, because executions found at a start are assigned under a new term, stored before the runner is notified.
The first lease of a new execution, of term 0, needs no record.

Leases are renewed and expire per runner, so a renewal costs nothing per execution.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from flowhook.attach.send_pacing import QUIET
from flowhook.model.executions import Attempt, AttemptEnd
from router.scheduling.queues import FlowQueue

_TOKEN: Final = struct.Struct(">IIQQ")

MAX_CREDIT: Final = 4096
"""Credit that a runner may have outstanding."""


@dataclass(slots=True)
class Lease:
    """One attempt at one execution; `assigned_ms` is the Unix time at which it was assigned, 0 if that is unknown."""

    token: bytes
    seq: int
    queue: FlowQueue
    runner: Runner
    attempt: int
    assigned_ms: int = 0

    def as_attempt(self, end: AttemptEnd | None = None, detail: str = "", *, charged: bool = False) -> Attempt:
        """Return the attempt for people, without an end time."""
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

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch & 0xFFFFFFFF
        self._granted = 0
        self._by_token: dict[bytes, Lease] = {}
        self._by_seq: dict[int, Lease] = {}
        self._terms: dict[int, int] = {}
        self._recovered_up_to = 0

    def __len__(self) -> int:
        """Return the number of leases."""
        return len(self._by_token)

    def get(self, token: bytes) -> Lease | None:
        """Return the lease of a token, or None when the token is stale."""
        return self._by_token.get(token)

    def seq_of(self, token: bytes) -> int | None:
        """Return the execution a token is valid for, or None when the token is stale."""
        lease = self._by_token.get(token)
        return None if lease is None else lease.seq

    def is_quiet(self, token: bytes) -> bool:
        """Whether a token is valid and the flow of its execution has few executions running (at most `QUIET`)."""
        lease = self._by_token.get(token)
        return lease is not None and lease.queue.running <= QUIET

    def of(self, seq: int) -> Lease | None:
        """Return the lease of an execution, or None."""
        return self._by_seq.get(seq)

    def attempt_of(self, seq: int) -> int | None:
        """Return the number of the attempt in progress, or None."""
        lease = self._by_seq.get(seq)
        return None if lease is None else lease.attempt

    def grant(self, seq: int, queue: FlowQueue, runner: Runner, attempt: int, now_ms: int = 0) -> Lease:
        """Lease an execution that has no lease, under its current term, at a Unix time.

        The token is unique among all leases of this shard, past and future.
        """
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
        """Remove a lease and start a new term of its execution; None when the token is stale.

        The next lease may be granted once that is stored.
        """
        lease = self.release(token)
        if lease is not None:
            self._terms[lease.seq] = self.term_of(lease.seq) + 1
        return lease

    # --- terms --------------------------------------------------------------------------------------------------------

    def recover(self, seq: int, term: int) -> None:
        """Add an execution found at a start, by ascending `seq`; its leases are of later terms than the stored one."""
        self._recovered_up_to = seq
        if term:
            self._terms[seq] = term + 1

    def is_recovered(self, seq: int) -> bool:
        """Whether an execution was found at the start."""
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
        if epoch >= self._epoch or not self.is_recovered(seq) or term + 1 != self.term_of(seq):
            return None
        return int(seq)

    def forget(self, seq: int) -> None:
        """Remove an execution that ended."""
        self._terms.pop(seq, None)
