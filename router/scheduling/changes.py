"""What the scheduling core says it did, or what became of executions by it.

The caller makes durable what these say before it tells anyone; see `shard`.
"""

from __future__ import annotations

from typing import NamedTuple

from router.scheduling.leases import Lease


class Assigned(NamedTuple):
    """An execution that a runner is to work on."""

    runner_id: str
    token: bytes
    seq: int
    attempt: int


class Requeued(NamedTuple):
    """An execution that is *returning*; `attempts` are those charged so far. Once that is durable: `requeued`."""

    seq: int
    attempts: int


class Exhausted(NamedTuple):
    """An execution that used up its attempts; it is *ending*: the caller faults it, then says `ended`."""

    seq: int
    attempts: int


Loss = Requeued | Exhausted


class Taken(NamedTuple):
    """A lease that was given up for good; its execution is *ending* or *parking*."""

    seq: int
    attempt: int


class Expired(NamedTuple):
    """What time changed: what became of executions, and attached runners that fell silent: end their streams."""

    losses: list[Loss]
    silent: list[str]


class Attached(NamedTuple):
    """What an attachment changed.

    Attributes:
        kept: tokens that are still good.
        losses: what became of the others the runner held.
        pardoned: executions that were charged while it was away, and are not any more.
        adopted: executions it had before a restart, and goes on with.
    """

    kept: list[bytes]
    losses: list[Loss]
    pardoned: list[int]
    adopted: list[int]


class Confessed(NamedTuple):
    """An execution that cost its runner the lease, which is learned late.

    Attributes:
        attempts: those charged so far.
        is_ending: whether that was too much: it is *ending*, and the caller faults it, then says `ended`.
        lease: a newer lease on it that was broken for that; its runner has to be told.
    """

    seq: int
    attempts: int
    is_ending: bool
    lease: Lease | None = None


class Withdrawn(NamedTuple):
    """An execution that an operator took out: attempts charged to it, and the lease that was broken, if any."""

    attempts: int
    lease: Lease | None
