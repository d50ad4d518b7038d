"""asyncio timers of the scheduling core: one for deadlines of runners, one for executions that wait for a time."""

from __future__ import annotations

from typing import Final

import attrs

from flowhook.errors import UnavailableError
from flowhook.process import logs
from router.dispatch.assignment import AssignmentLoader
from router.dispatch.effects import ASSIGN_READY
from router.dispatch.event_delivery import ParkedExecutions
from router.dispatch.parts import Alarm, ShardParts
from router.dispatch.transitions import TransitionWriter

# seconds after which the wall clock is read again while executions wait: it may be set, and it goes on while the
# machine sleeps, when the monotonic clock of the timers may stand still
CLOCK_LOOK: Final = 0.5
# Seconds; a deadline noticed later than this means that this process was stalled, not its runners
LATE_SECONDS: Final = 0.5
CATCH_UP_SECONDS: Final = 0.25  # seconds that a stalled process then waits, to read what runners sent meanwhile
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class DeadlineTimer:
    """Takes the leases of runners away that have been silent for too long. It is not armed at first."""

    _parts: ShardParts
    _loader: AssignmentLoader
    _transitions: TransitionWriter
    alarm: Alarm = attrs.field(init=False)
    _due: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self._on_deadline)

    def arm(self) -> None:
        self.alarm.cancel()
        deadline = self._parts.shard.next_deadline()
        if deadline is not None:
            self._arm_at(max(deadline, self._parts.clock() + 0.01))

    def _arm_at(self, due: float) -> None:
        if self._parts.writer.is_open:
            self._due = due
            self.alarm.set(due - self._parts.clock())

    def _on_deadline(self) -> None:
        now = self._parts.clock()
        if now - self._due > LATE_SECONDS:
            self._arm_at(now + CATCH_UP_SECONDS)
        else:
            self._expire(now)
            self.arm()

    def _expire(self, now: float) -> None:
        self._parts.runners.renew_storing()
        for runner_id in self._parts.shard.runners.silent(now):
            runner = self._parts.runners.remove(runner_id)
            if runner is not None:
                log.warning("runner fell silent", runner=runner_id)
                runner.close(UnavailableError("no renewal in time", reason="RUNNER_SILENT"))
                self._loader.leave(runner)  # what it has not received is no loss, and does not count for rates
        expired = self._parts.shard.expire(now)
        self._transitions.lose(expired.losses)
        self._transitions.record(expired.unclaimed)
        self._parts.effects.add(ASSIGN_READY)


@attrs.define(eq=False, repr=False)
class WakeTimer:
    """Wakes executions that wait for a time, and closes groups. It is not armed at first."""

    _parts: ShardParts
    _parked: ParkedExecutions
    _transitions: TransitionWriter
    alarm: Alarm = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self._on_wake)

    def arm(self) -> None:
        """Set the alarm to the first execution that is due, or to `CLOCK_LOOK` if that is sooner."""
        earliest = self._parts.shard.next_wake()
        if earliest is not None and self._parts.writer.is_open:
            self.alarm.set(min(max((earliest - self._parts.now_ms()) / 1000, 0.001), CLOCK_LOOK))

    def _on_wake(self) -> None:
        woken = self._parts.shard.wake(self._parts.now_ms())
        if woken:
            for seq in woken:
                self._parked.leave(seq)
            self._parts.attempt_log.woken(woken)
            self._parts.effects.add(ASSIGN_READY)
            self._parts.watchers.changed(woken)
        groups = self._parts.shard.close_groups(self._parts.now_ms())
        if groups:
            self._parts.writer.spawn(self._transitions.absorb(groups))
        self.arm()
