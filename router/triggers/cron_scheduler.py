"""Starts flows by schedule, when they are due.

The order of writes makes crashes harmless. A flow is started first, under an ID derived from the flow and its due time;
its next due time is stored after that. After a crash in between, the same start is tried again and found to be a
duplicate. One task does all of it, so that nothing overtakes anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs
from typing_extensions import override

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import FlowhookError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Flow, Origin
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from router.dispatch.observers import EndReader
from router.dispatch.parts import ShardParts
from router.dispatch.timers import CLOCK_LOOK
from router.flows.event_triggers import FlowTriggers
from router.flows.flow_table import TriggerSink
from router.flows.schedules import DueRun, ScheduleQueue
from router.storage.model import Appended, ExecutionRecord, Scheduled
from router.triggers.execution_starter import ExecutionStart, ExecutionStarter

BATCH: Final = 64  # flows started in one batch; computing the next due time takes about 0.1 ms for each
log = logs.get_logger(__name__)


def run_id(run: DueRun) -> str:
    return ids.of_schedule(run.flow_id, run.due_ms)


@attrs.define(eq=False, repr=False)
class CronScheduler(TriggerSink):
    """Starts scheduled flows. Call `recover`, register flows with `react`, then let `run` run beside the server."""

    _parts: ShardParts
    _starter: ExecutionStarter
    _agenda: ScheduleQueue = attrs.field(init=False, factory=ScheduleQueue)
    _stored: dict[str, Scheduled] = attrs.field(init=False, factory=dict)  # of flows that are not registered yet
    _unsure: deque[DueRun] = attrs.field(init=False, factory=deque)  # may have ended unnoticed, to be looked up
    # runs whose end determines the next due time of their flow, by sequence number of the execution
    _awaited: dict[int, DueRun] = attrs.field(init=False, factory=dict)
    _failing: set[str] = attrs.field(init=False, factory=set)  # flows whose last start failed, which was logged
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ended_runs: EndReader = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ended_runs = EndReader(self._changed)
        self._parts.end_readers.append(self._ended_runs)

    def __len__(self) -> int:
        return len(self._agenda)

    def next_of(self, flow_id: str) -> int | None:
        """Return when a flow is due next, Unix time in ms; None when that is unknown (see `ScheduleQueue.next_of`)."""
        self._take_ends()
        return self._agenda.next_of(flow_id)

    async def recover(self) -> None:
        """Load stored schedules. Call it once, before any flow is registered."""
        after = ""
        while rows := await self._parts.state.schedules(after_id=after):
            self._stored |= {row.flow_id: row for row in rows if row.due_ms is not None or row.last_ms}
            after = rows[-1].flow_id

    @override
    def react(self, flow: Flow, triggers: FlowTriggers) -> None:
        self._take_ends()
        if triggers.timetable is None:
            self.remove(flow.id)
            return
        stored = self._stored.pop(flow.id, None)
        if stored is None:
            self._agenda.put(flow.id, triggers.timetable, flow.update_time_ms)
        elif self._agenda.recover(
            triggers.timetable, stored, since_ms=flow.update_time_ms, now_ms=self._parts.now_ms()
        ):
            self._unsure.append(DueRun(flow.id, stored.last_ms))
        self._changed.set()

    @override
    def remove(self, flow_id: str) -> None:
        self._take_ends()
        if self._stored.pop(flow_id, None) is not None:
            self._agenda.forget(flow_id)
        self._agenda.remove(flow_id)
        self._failing.discard(flow_id)
        self._changed.set()

    async def run(self) -> None:
        """Start flows when their schedules are due, until cancelled; a start that fails is tried again."""
        for flow_id in self._stored:
            self._agenda.forget(flow_id)
        self._stored.clear()
        while True:
            self._changed.clear()
            try:
                await self.turn()
            except UnavailableError as error:
                log.warning("scheduled starts failed; trying again", reason=error.reason)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                # until a flow is due, a change is signalled, or the clock is to be read again
                due_ms = self._agenda.next()
                delay = None if due_ms is None else min(max((due_ms - self._parts.now_ms()) / 1000, 0.001), CLOCK_LOOK)
                await wait_at_most(delay, self._changed.wait())

    async def turn(self) -> None:
        """Start the flows that are due, and store their next due times; UnavailableError: the rest is still due."""
        now_ms = self._parts.now_ms()
        self._agenda.look(now_ms)
        while True:
            self._take_ends()
            if self._unsure:
                await self._find_out()
            elif runs := self._agenda.due(now_ms, BATCH):
                await self._start(runs)
            else:
                break
            await self._save()
        await self._save()

    async def _start(self, runs: Sequence[DueRun]) -> None:
        try:
            results = await self._starter.start(
                [ExecutionStart(run_id(run), run.flow_id, Origin.SCHEDULE, b"{}") for run in runs]
            )
            earlier = {
                run: record
                for run, result in zip(runs, results, strict=True)
                if isinstance(result, Appended) and result.duplicate_of
                if (record := await self._parts.state.find(result.duplicate_of)) is not None
            }
        except BaseException:
            for run in runs:
                self._agenda.again(run)
            raise
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, Appended):
                self._started(run, result.seq, earlier.get(run))
            else:
                self._left_out(run, result)

    def _started(self, run: DueRun, seq: int, earlier: ExecutionRecord | None) -> None:
        now_ms = self._parts.now_ms()
        if self._agenda.started(run, now_ms if earlier is None else min(now_ms, earlier.receive_time_ms)):
            self._await_end(seq, run)
            self._unsure.append(run)
        self._failing.discard(run.flow_id)
        if earlier is None:
            self._parts.metrics.by_label["flowhook_router_scheduled_total"]["started"] += 1

    def _left_out(self, run: DueRun, error: FlowhookError) -> None:
        self._agenda.skipped(run, self._parts.now_ms())
        if isinstance(error, NotFoundError):  # the flow has just been deleted
            return
        self._parts.metrics.by_label["flowhook_router_scheduled_total"][error.reason.lower()] += 1
        if run.flow_id not in self._failing:
            self._failing.add(run.flow_id)
            log.warning("scheduled start failed", flow=run.flow_id, reason=error.reason)

    async def _find_out(self) -> None:
        run = self._unsure[0]
        event_id = run_id(run)
        record = await self._parts.state.find(event_id)
        if record is not None and not record.status.ended and record.seq not in self._awaited:
            self._await_end(record.seq, run)
            record = await self._parts.state.find(event_id)
        self._unsure.popleft()
        if record is None:
            self._agenda.ended(run, self._parts.now_ms())
        elif record.end_time_ms is not None:
            self._ended(record.seq, run, record.end_time_ms)

    def _await_end(self, seq: int, run: DueRun) -> None:
        self._awaited[seq] = run
        self._ended_runs.await_end(seq)

    def _take_ends(self) -> None:
        for end in self._ended_runs.collect():
            run = self._awaited.get(end.seq)
            if run is not None:
                self._ended(end.seq, run, end.end_time_ms)

    def _ended(self, seq: int, run: DueRun, at_ms: int) -> None:
        self._awaited.pop(seq, None)
        self._ended_runs.forget(seq)
        self._agenda.ended(run, at_ms)

    async def _save(self) -> None:
        changes = self._agenda.unsaved()
        if changes:
            await self._parts.state.write(changes)
            self._agenda.saved(changes)
