"""Finds flows that got no event for longer than they expect (`webhook.expect`), and publishes that, each silence once.

What counts is an event that was accepted: the last one is read from storage when it would be too long ago, so that an
event costs nothing here. Of flows that are silent the next event is awaited. Each step is stored before it is
published; after a crash in between, the event is published again under the same ID, and found to be a duplicate.

A router that was away can't tell whether senders were: it begins no silence before it has served for as long as the
flow expects, or for `GRACE_MS`, and the event says since when it serves, if that is later than the last event.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import attrs
from typing_extensions import override

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import FlowhookError
from flowhook.events import ids
from flowhook.events.lifecycle import SilenceEventType
from flowhook.events.workflow_input import rfc3339
from flowhook.model import Flow
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from router.dispatch.parts import ShardParts
from router.flows.event_triggers import FlowTriggers
from router.flows.flow_table import TriggerSink
from router.storage.silences import Silence, SilenceLog
from router.triggers.event_publisher import EventPublisher

GRACE_MS: Final = 5 * 60_000  # milliseconds for which senders may take to try again after a router was away
TICK_SECONDS: Final = 1.0  # at least between two turns
# at most between two turns while a flow is due later: the wall clock may be set, and goes on while the machine sleeps
LOOK_SECONDS: Final = 30.0
BATCH: Final = 8  # flows looked up by one read: each may take 0.1 s, while other queries wait
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class _Expectation:
    """What a flow expects. Times are Unix times in ms."""

    every_ms: int
    create_ms: int
    apply_ms: int
    due_ms: int | None = 0  # when to look at it; None: not before it gets an event


@attrs.define(eq=False, repr=False)
class SilenceWatch(TriggerSink):
    """Watches flows that expect events. Register flows with `react`, then let `run` run beside the server."""

    _parts: ShardParts
    _silences: SilenceLog
    _publisher: EventPublisher
    _serve_ms: int
    _expected: dict[str, _Expectation] = attrs.field(init=False, factory=dict)
    _silent: dict[str, Silence] = attrs.field(init=False, factory=dict)
    _is_recovered: bool = attrs.field(init=False, default=False)

    def silent_since(self, flow_id: str) -> int | None:
        """Return when a silent flow got its last event, or was applied, Unix time in ms; None: it is not silent."""
        found = self._silent.get(flow_id)
        return None if found is None or found.end_ms is not None else found.since_ms

    def __len__(self) -> int:
        return sum(each.end_ms is None for each in self._silent.values())

    @override
    def react(self, flow: Flow, triggers: FlowTriggers) -> None:
        if triggers.expect_ms is None:
            self.remove(flow.id)
        else:
            self._expected[flow.id] = _Expectation(triggers.expect_ms, flow.create_time_ms, flow.update_time_ms)
            self._parts.awaited.changed.set()

    @override
    def remove(self, flow_id: str) -> None:
        if self._expected.pop(flow_id, None) is not None:
            self._parts.awaited.changed.set()

    async def run(self) -> None:
        """Look for flows whose awaited events are overdue, until cancelled."""
        awaited = self._parts.awaited
        while True:
            awaited.changed.clear()
            try:
                await self.turn()
            except FlowhookError as error:
                log.warning("looking for silent flows failed; trying again", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            due = [each.due_ms for each in self._expected.values() if each.due_ms is not None]
            left = (min(due) - self._parts.now_ms()) / 1000 if due else None
            delay = None if left is None else min(max(left, TICK_SECONDS), LOOK_SECONDS)
            if await wait_at_most(delay, awaited.changed.wait()):
                await asyncio.sleep(TICK_SECONDS)  # more may follow: flows that are applied one by one

    async def turn(self) -> None:
        """Look at all flows that are due; FlowhookError: storage can't serve, and the rest is still due."""
        now_ms = self._parts.now_ms()
        if not self._is_recovered:
            self._silent = {each.flow_id: each for each in await self._silences.all()}
            self._parts.awaited.flows.update(self._silent)
            self._is_recovered = True
        for each in [*self._silent.values()]:
            await self._publish(each)
        arrived = self._parts.awaited.take()
        for flow_id in arrived & self._expected.keys():
            self._expected[flow_id].due_ms = now_ms
        due = [flow_id for flow_id, each in self._expected.items() if _is_due(each, now_ms)]
        for start in range(0, len(due), BATCH):
            chunk = due[start : start + BATCH]
            latest = await self._parts.state.latest_requests(chunk)
            for flow_id in chunk:
                await self._look(flow_id, latest.get(flow_id, 0), now_ms)
        for flow_id in self._silent.keys() - self._expected.keys():
            await self._end(flow_id, now_ms)

    async def _look(self, flow_id: str, last_ms: int, now_ms: int) -> None:
        expected = self._expected.get(flow_id)
        if expected is None:
            return
        # an event of before is that of a deleted flow; by a clock that was set back, one is of the future
        since_ms = min(last_ms if last_ms >= expected.create_ms else expected.apply_ms, now_ms)
        due_ms = since_ms + expected.every_ms
        silence = self._silent.get(flow_id)
        if silence is None:
            due_ms = max(due_ms, self._serve_ms + min(expected.every_ms, GRACE_MS))
            if due_ms <= now_ms:
                # looked at again at once: there may be an event since storage was read, which nobody awaited then
                self._parts.awaited.flows.add(flow_id)
                await self._store(Silence(flow_id, since_ms, now_ms, self._serve_ms))
            expected.due_ms = due_ms
        elif due_ms > now_ms or since_ms > silence.since_ms:  # it may be silent again already
            await self._end(flow_id, since_ms)
            expected.due_ms = due_ms
        else:
            expected.due_ms = None

    async def _end(self, flow_id: str, end_ms: int) -> None:
        silence = self._silent[flow_id]
        await self._store(silence._replace(end_ms=max(end_ms, silence.begin_ms)))

    async def _store(self, silence: Silence) -> None:
        await self._silences.save(silence)
        self._silent[silence.flow_id] = silence
        log.info("silence", flow=silence.flow_id, over=silence.end_ms is not None)
        await self._publish(silence)

    async def _publish(self, silence: Silence) -> None:
        """Publish what was not published of a silence, and forget it if it is over."""
        flow_id = silence.flow_id
        if not silence.announced:
            await self._publish_event(SilenceEventType.BEGAN, silence)
            silence = silence._replace(announced=1)
            await self._silences.save(silence)
            self._silent[flow_id] = silence
        if silence.end_ms is not None:
            await self._publish_event(SilenceEventType.ENDED, silence)
            await self._silences.remove(flow_id)
            del self._silent[flow_id]
            self._parts.awaited.flows.discard(flow_id)

    async def _publish_event(self, type_: SilenceEventType, silence: Silence) -> None:
        flow_id, since_ms, begin_ms, serve_ms, end_ms, _ = silence
        event_id = ids.derive(ids.slot_of(flow_id), begin_ms, f"{type_} {flow_id}")
        data: dict[str, Any] = {"flow": flow_id, "silentSince": rfc3339(since_ms), "beganAt": rfc3339(begin_ms)}
        if serve_ms > since_ms:
            data["routerStartedAt"] = rfc3339(serve_ms)
        time_ms = begin_ms
        if type_ is SilenceEventType.ENDED and end_ms is not None:
            data["endedAt"] = rfc3339(time_ms := end_ms)
        await self._publisher.announce(
            type_, data, event_id=event_id, source=f"/flows/{flow_id}", subject=flow_id, time_ms=time_ms
        )


def _is_due(expected: _Expectation, now_ms: int) -> bool:
    """Whether to look at a flow now; also if it is due later than it can be, because the clock was set back."""
    due_ms = expected.due_ms
    return due_ms is not None and not now_ms < due_ms <= now_ms + expected.every_ms
