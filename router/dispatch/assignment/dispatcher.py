"""Assigns ready executions to runners: sends those in the memory cache at once, and has the others loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import attrs

from flowhook.attach.messages import Assignment
from router.dispatch.assignment.event_cache import EventCache
from router.dispatch.assignment.loader import AssignmentLoader
from router.dispatch.attached_runners import AttachedRunners
from router.dispatch.effects import ASSIGN_READY, EffectQueue
from router.dispatch.observers.execution_watchers import ExecutionWatchers
from router.dispatch.persistence.attempt_log import AttemptLog
from router.scheduling.changes import LeaseGranted
from router.scheduling.shard import Shard

RETRY_SECONDS: Final = 0.1
"""Between two tries to assign while that is not permitted."""


@attrs.define(eq=False, repr=False, kw_only=True)
class AssignmentDispatcher:
    """Passes on what the scheduling core assigns, until it is stopped, and only while `may_assign` permits it."""

    _core: Shard
    _runners: AttachedRunners
    _cache: EventCache
    _loader: AssignmentLoader
    _attempt_log: AttemptLog
    _watchers: ExecutionWatchers
    _effects: EffectQueue
    _may_assign: Callable[[], bool]
    _now_ms: Callable[[], int]
    _retry: asyncio.TimerHandle | None = attrs.field(init=False, default=None)
    _stopped: bool = attrs.field(init=False, default=False)

    def stop(self) -> None:
        """Assign no more, and release the assignments that runners have not received."""
        self._stopped = True
        self._loader.leave_all()

    def assign(self) -> None:
        """Assign at most one batch to each runner; if more is ready, `AssignReady` is queued for the next one."""
        if self._stopped:
            return
        if not self._may_assign():
            if self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._assign_later)
            return
        self._runners.send_wanted_types()
        cached: dict[str, list[Assignment]] = {}
        stored: dict[str, list[LeaseGranted]] = {}
        full = [runner.runner_id for runner in self._runners if runner.full or self._loader.full(runner)]
        granted = self._core.assign(full, self._now_ms())
        for item in granted:
            event = self._cache.pop(item.seq)
            if event is None or item.attempt > 1:
                stored.setdefault(item.runner_id, []).append(item)
            else:
                cached.setdefault(item.runner_id, []).append(
                    Assignment(item.token, item.attempt, event.flow_revision, event.payload)
                )
        for runner_id, assignments in cached.items():
            urgent = any(self._core.leases.is_quiet(each.lease) for each in assignments)
            self._runners[runner_id].assign(assignments, urgent=urgent)
        for runner_id, items in stored.items():
            self._loader.add(self._runners[runner_id], items)
        if granted:
            if self._core.queued:
                self._effects.add(ASSIGN_READY)
            self._attempt_log.add(item.seq for item in granted)
            self._watchers.changed(item.seq for item in granted)

    def _assign_later(self) -> None:
        self._retry = None
        self._effects.add(ASSIGN_READY)
