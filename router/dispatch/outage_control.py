"""Outages of destinations: counts what runners report of calls, tells runners what is down, and wakes what waits.

The decisions are made in `router.scheduling.outages`; this performs them. What waits is in storage, so that a router
that starts knows from it which destinations were down (`Outages.recover`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import attrs

from flowhook.attach.messages import CallReport, DestinationUpdate
from flowhook.model.incidents import Incident
from flowhook.process import logs
from router.dispatch.effects import ASSIGN_READY
from router.dispatch.event_delivery import ParkedExecutions
from router.dispatch.execution_commands import ExecutionCommands
from router.dispatch.parts import Alarm, ShardParts
from router.scheduling.subscriptions import EventReceiver

MAX_WAKES: Final = 512  # most executions that are woken at once
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class OutageControl:
    """Performs what the breakers decide. Its alarm is not set at first, and then only while there are breakers."""

    _parts: ShardParts
    _parked: ParkedExecutions
    _commands: ExecutionCommands
    _unsaved: dict[str, Incident] = attrs.field(init=False, factory=dict)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    alarm: Alarm = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self._on_tick)

    def report(self, reports: Sequence[CallReport]) -> None:
        """Count outcomes of calls that a runner reports."""
        now_ms = self._parts.now_ms()
        for each in reports:
            self._parts.outages.report(each, now_ms)
        self.publish()

    def parked(self, seq: int, flow_id: str, destinations: Sequence[str]) -> None:
        """Add an execution that waits for destinations, once that is stored."""
        self._parts.outages.park(seq, flow_id, destinations, self._parts.now_ms())
        self._arm()

    @property
    def incidents(self) -> list[Incident]:
        return self._parts.outages.incidents()

    def probe_now(self, origin: str) -> bool:
        """Let one execution call a destination now; false: it has no incident."""
        found = self._parts.outages.probe_now(origin, self._parts.now_ms())
        self.publish()
        return found

    def let_fail(self, origin: str) -> int | None:
        """Let the calls that wait for a destination fail; returns how many, None: it has no incident."""
        found = self._parts.outages.let_fail(origin, self._parts.now_ms())
        self.publish()
        return found

    async def changed(self) -> list[Incident]:
        """Wait for incidents to store, and return them; give back by `put_back` those that can't be stored."""
        await self._changed.wait()
        self._changed.clear()
        taken, self._unsaved = self._unsaved, {}
        return list(taken.values())

    def put_back(self, incidents: Sequence[Incident]) -> None:
        self._unsaved = {each.id: each for each in incidents} | self._unsaved
        self._changed.set()

    def publish(self) -> None:
        """Send runners what has changed, and log incidents."""
        outages = self._parts.outages
        if outages.announcements:
            updates = [DestinationUpdate(*key, state) for key, state in outages.announcements.items()]
            outages.announcements.clear()
            for runner in self._parts.runners:
                runner.update_destinations(updates)
        for incident in outages.changed.values():
            note = incident.history[-1].text
            log.info("incident", destination=incident.destination, waiting=incident.waiting, change=note)
        if outages.changed:
            self._unsaved |= outages.changed
            outages.changed.clear()
            self._changed.set()
        self._arm()

    def _arm(self) -> None:
        tick_ms = self._parts.outages.tick_ms
        if tick_ms is not None and self._parts.writer.is_open:
            self.alarm.set(tick_ms / 1000)

    def _on_tick(self) -> None:
        parts = self._parts
        wakes = {each.seq: each for each in parts.outages.wake(parts.now_ms(), MAX_WAKES)}
        retried = [EventReceiver(each.seq, each.retry_key) for each in wakes.values() if each.retry_key]
        for seq in self._commands.retry_early(retried) if retried else ():
            parts.outages.permits[seq] = wakes.pop(seq)
        woken = parts.shard.release_waiting([each.seq for each in wakes.values() if not each.retry_key])
        for seq in woken:
            self._parked.leave(seq)
            parts.outages.permits[seq] = wakes.pop(seq)
        for wake in wakes.values():
            parts.outages.missed(wake)
        if woken:
            parts.attempt_log.woken(woken)
            parts.effects.add(ASSIGN_READY)
            parts.watchers.changed(woken)
        self.publish()
