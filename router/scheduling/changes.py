"""Results of the scheduling core's operations: state transitions of executions and leases.

The caller makes them durable before it reports them to anyone; see `shard`.
"""

from __future__ import annotations

from typing import NamedTuple

from flowhook.model.executions import Attempt
from router.scheduling.leases import Lease


class LeaseGranted(NamedTuple):
    """An execution assigned to a runner."""

    runner_id: str
    token: bytes
    seq: int
    attempt: int


class RequeuePending(NamedTuple):
    """An execution that is *returning*. Call `requeued` once that is durable.

    Attributes:
        attempts: those charged so far.
        interrupted: the attempt that ended by it, without its end time; None: there was none.
    """

    seq: int
    attempts: int
    interrupted: Attempt | None = None


class AttemptsExhausted(NamedTuple):
    """An execution that used up its attempts and is *ending*: the caller faults it, then calls `ended`.

    `interrupted`: see `RequeuePending`.
    """

    seq: int
    attempts: int
    interrupted: Attempt | None = None


Loss = RequeuePending | AttemptsExhausted


class LeasesExpired(NamedTuple):
    """Effects of time passing.

    Attributes:
        losses: what became of executions whose lease expired.
        silent: attached runners that sent nothing for too long; the caller ends their streams.
        unclaimed: executions with the attempt that was in progress when the router ended; they are ready again.
    """

    losses: list[Loss]
    silent: list[str]
    unclaimed: list[tuple[int, Attempt]]


class AttachResult(NamedTuple):
    """Effects of a runner attaching.

    Attributes:
        kept: tokens that are still valid.
        losses: what became of the other executions the runner held.
        refunded: executions whose charge for the runner's absence was refunded.
        adopted: executions the runner had before a restart and continues.
    """

    kept: list[bytes]
    losses: list[Loss]
    refunded: list[int]
    adopted: list[int]


class LateFailure(NamedTuple):
    """An execution that caused the loss of its own lease, as its runner reported later.

    Attributes:
        attempts: those charged so far.
        is_ending: whether the execution must end for it: it is *ending*; the caller faults it, then calls `ended`.
        lease: a newer lease on the execution that was broken for this reason; its runner must be notified.
    """

    seq: int
    attempts: int
    is_ending: bool
    lease: Lease | None = None


class Removed(NamedTuple):
    """An execution an operator removed: the attempts charged to it, and the lease that was broken, if any."""

    attempts: int
    lease: Lease | None
