"""Cleans up after executions that were removed from the scheduling core while they were waiting or running."""

from __future__ import annotations

import attrs

from router.dispatch.assignment.event_cache import EventCache
from router.dispatch.attached_runners import AttachedRunners
from router.dispatch.delivery.parked_executions import ParkedExecutions
from router.dispatch.persistence.attempt_log import AttemptLog
from router.scheduling.leases import Lease


@attrs.define(eq=False, repr=False, kw_only=True)
class Withdrawal:
    """Removes what the parts of a shard runtime hold of an execution, and revokes its lease."""

    _attempt_log: AttemptLog
    _cache: EventCache
    _parked: ParkedExecutions
    _runners: AttachedRunners

    def clean_up(self, seq: int, lease: Lease | None, reason: str) -> None:
        """Clean up after an execution.

        Args:
            seq: the execution, removed from the core.
            lease: its lease, which is void; None: it had none.
            reason: why the lease is void, for its runner; see `RunnerPort.revoke`.
        """
        self._attempt_log.drop(seq)
        self._cache.pop(seq)
        self._parked.leave(seq)
        if lease is not None:
            self._runners.revoke(lease, reason)
