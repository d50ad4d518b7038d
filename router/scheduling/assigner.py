"""Assigns ready executions to runners: fairly across flows, evenly across runners."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from router.scheduling.attempts import AttemptCounts
from router.scheduling.changes import LeaseGranted
from router.scheduling.leases import LeaseTable, Runner
from router.scheduling.lost_leases import LostLeases
from router.scheduling.queues import FairQueues
from router.scheduling.recovered import RecoveredExecutions
from router.scheduling.runners import RunnerTable

MAX_ASSIGNMENTS: Final = 64
"""Most assignments that one runner gets in one batch."""

RESERVE: Final = 4
"""One slot in so many is withheld from each single flow, so that a flow whose calls hang leaves room for others."""

MIN_SHARE: Final = 32
"""Slots that each flow may take, however few there are."""


def _flow_share(slots: int) -> int:
    """Return the number of all runners' slots that one flow may take."""
    return max(MIN_SHARE, slots - slots // RESERVE)


@attrs.define(eq=False, repr=False, kw_only=True)
class Assigner:
    """Grants leases on the executions that `FairQueues` draws, within the credit of runners."""

    _queues: FairQueues
    _runners: RunnerTable
    _leases: LeaseTable
    _attempts: AttemptCounts
    _lost: LostLeases
    _recovered: RecoveredExecutions

    def assign(self, full: Collection[str] = (), now_ms: int = 0) -> list[LeaseGranted]:
        """Assign ready executions to runners with credit, fairly across flows and evenly across runners.

        Each runner gets at most one batch; for more, call again until nothing is assigned.

        Args:
            full: runners that can't accept assignments now, even if they have credit.
            now_ms: Unix time, for `Lease.assigned_ms`.
        """
        assigned: list[LeaseGranted] = []
        flow_share = _flow_share(self._runners.slots)
        able = self._runners.with_credit(full)
        while able and self._queues.ready:
            runner = min(able, key=lambda candidate: (len(candidate.leases), -candidate.credit))
            share = -(-self._queues.ready // len(able))
            able.remove(runner)
            if not self._draw(runner, min(runner.credit, share, MAX_ASSIGNMENTS), flow_share, now_ms, assigned):
                break
        return assigned

    def _draw(self, runner: Runner, count: int, flow_share: int, now_ms: int, assigned: list[LeaseGranted]) -> int:
        is_lost, is_claimable = bool(self._lost), bool(self._recovered)
        for number in range(count):
            drawn = self._queues.draw(flow_share)
            if drawn is None:
                return number
            queue, seq = drawn
            if is_lost:
                self._lost.forget_execution(seq)
            if is_claimable:
                self._recovered.forget_claimable(seq)
            lease = self._leases.grant(seq, queue, runner, self._attempts.charged(seq) + 1, now_ms)
            runner.credit -= 1
            assigned.append(LeaseGranted(runner.id, lease.token, seq, lease.attempt))
        return count
