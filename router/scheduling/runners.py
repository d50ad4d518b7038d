"""Runners of a shard: attached ones with their credit, and detached ones that may still reattach.

A runner is lost when it sends nothing for the duration of a lease, or does not reattach soon after its stream ended.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from router.scheduling.leases import MAX_CREDIT, Runner


@attrs.define(eq=False, repr=False, kw_only=True)
class RunnerTable:
    """Runners by ID. A detached runner has no credit.

    Args:
        lease_seconds: how long a runner may be silent before it is lost.
        reattach_seconds: how long a detached runner may take to reattach.
    """

    _lease_seconds: float
    _reattach_seconds: float
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
        """Extend all leases of an attached runner."""
        runner = self._runners.get(runner_id)
        if runner is not None and runner.attached:
            runner.deadline = now + self._lease_seconds

    def lease_count(self, runner_id: str) -> int:
        """Return the number of executions a runner works on."""
        runner = self._runners.get(runner_id)
        return 0 if runner is None else len(runner.leases)

    def credit(self, runner_id: str) -> int:
        """Return the number of executions a runner would take besides those it has."""
        runner = self._runners.get(runner_id)
        return 0 if runner is None else runner.credit

    # --- credit -------------------------------------------------------------------------------------------------------

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
        """Return the runners that have credit, except `full` ones."""
        return [runner for runner in self._runners.values() if runner.credit and runner.id not in full]

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The earliest time at which a runner is lost unless it renews or reattaches, or None."""
        return min((runner.deadline for runner in self._runners.values()), default=None)

    def expire(self, now: float) -> list[Runner]:
        """Remove and return the lost runners. The caller takes their leases away."""
        lost = [runner for runner in self._runners.values() if runner.deadline <= now]
        for runner in lost:
            del self._runners[runner.id]
        return lost
