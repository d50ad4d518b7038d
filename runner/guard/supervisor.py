"""Supervises the child: starts it, kills it on the watchdog's decision, reports its exit to the router, restarts it.

The report is sent over the parent's own connection, so that the router reassigns the executions, and knows the cause,
before the next child attaches. The same connection renews the leases of a child that is alive but blocked.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Final

import attrs

from flowhook.asyncio_tasks import end_tasks, wait_at_most
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings, read_token
from flowhook.retrying import WORKER
from flowhook.tracing.configuration import TracesConfiguration, configured
from runner import ipc
from runner.guard import exits
from runner.guard.process_starter import ProcessStarter
from runner.guard.watchdog import QUARANTINE_SECONDS, KillDecision
from runner.guard.worker_process import WorkerProcess

STABLE_SECONDS: Final = 10.0  # lifetime of a child after which the backoff starts again
DRAIN_MARGIN: Final = 4.0  # seconds beyond `drain_seconds` that a child has to exit: its last outcomes must be settled
# time to read what a child that has ended had said: its end of the channel is closed, unless a descendant has it
LAST_WORDS_SECONDS: Final = 5.0
METRICS_SECONDS: Final = 2.0  # within which a child that is not blocked sends its metrics
LAST_REPORT_SECONDS: Final = 1.0  # deadline of the report of a child's exit while this process is shutting down

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class WorkerSupervisor:
    """Runs the parent process: supervises one child after another.

    Raises:
        InvalidError: there is no token for the router (`TOKEN_MISSING`), or traces can't be exported as configured.
    """

    _settings: RunnerSettings
    _process_state: ProcessState
    _starter: ProcessStarter  # `run` closes it
    _token: str = attrs.field(init=False)
    _explained: bool = attrs.field(init=False)
    _traces: TracesConfiguration | None = attrs.field(init=False)
    _renew_seconds: float = attrs.field(init=False, default=0.0)
    _was_attached: bool = attrs.field(init=False, default=False)  # whether the present child was ever attached
    # monotonic time at which flows leave quarantine, by ID
    _quarantined: dict[str, float] = attrs.field(init=False, factory=dict)
    _kills: int = attrs.field(init=False, default=0)
    # reasons for being detached that were logged since a child was last attached
    _logged_details: set[str] = attrs.field(init=False, factory=set)

    _worker: WorkerProcess | None = attrs.field(init=False, default=None)  # the present child
    _asked: asyncio.Future[bytes] | None = attrs.field(init=False, default=None)  # for its metrics, by all that ask

    def __attrs_post_init__(self) -> None:
        self._token = read_token(self._settings, "runner")
        self._process_state.metrics = self._metrics
        self._explained = self._settings.losses_explained
        self._traces = configured(enabled=self._settings.traces)

    async def run(self) -> None:
        """Supervise children until `process_state.stop` is set, then drain the last one."""
        pauses = WORKER.pauses()
        try:
            async with aclosing(exits.RouterReports(self._settings, self._process_state.name)) as reports:
                while not self._process_state.stop.is_set():
                    began = time.monotonic()
                    decision = await self._run_child(reports)
                    was_killed_for = decision is not None and decision.snapshot is not None
                    if was_killed_for or time.monotonic() - began > STABLE_SECONDS:
                        pauses = WORKER.pauses()
                    if not was_killed_for:
                        await wait_at_most(next(pauses), self._process_state.stop.wait())
        finally:
            await self._starter.close()

    async def _run_child(self, reports: exits.RouterReports) -> KillDecision | None:
        try:
            child = await WorkerProcess.spawn(self._starter)
        except OSError as problem:
            log.error("child could not be started", cause=str(problem))  # noqa: TRY400 - operators need no traceback
            return None
        try:
            decision = await self._supervise(child, reports)
            end = self._classify_exit(child, decision)
        finally:
            await child.close()
        await self._report(reports, end)
        return decision

    async def _supervise(self, worker: WorkerProcess, reports: exits.RouterReports) -> KillDecision | None:
        """Run a started child to its end; returns the decision if it was killed, None when it ended by itself."""
        self._renew_seconds, self._was_attached = 0.0, False
        worker.control.send(
            ipc.Begin(
                settings=self._settings,
                token=self._token,
                runner_id=self._process_state.name,
                losses_explained=self._explained,
                kills=self._kills,
                quarantined=self._in_quarantine(),
                traces=self._traces,
            )
        )
        self._worker = worker
        watcher = asyncio.create_task(worker.watch(self._settings, shared=True), name="watch child")
        stopper = asyncio.create_task(self._stop(worker), name="stop child")
        ended = asyncio.create_task(worker.process.wait(), name="wait for child")
        listener = asyncio.create_task(self._listen(worker), name="listen to child")
        renewer = asyncio.create_task(self._renew(worker, reports), name="renew leases")
        tasks = (watcher, stopper, ended, listener, renewer)
        try:
            await asyncio.wait({watcher, stopper, ended}, return_when=asyncio.FIRST_COMPLETED)
            # the decision counts even if the child died at the same moment, of this or another cause
            decision = watcher.result() if watcher.done() else None
            await worker.kill()
            # what it said before counts, also if this process was not scheduled meanwhile
            await asyncio.wait({listener}, timeout=LAST_WORDS_SECONDS)
            return decision
        finally:
            await end_tasks(tasks)
            self._worker = self._asked = None
            self._process_state.ready.clear()

    async def _listen(self, worker: WorkerProcess) -> None:
        while (message := await worker.control.receive()) is not None:
            match message:
                case ipc.RouterAttached(renew_seconds=seconds):
                    self._renew_seconds = seconds
                    self._explained = self._was_attached = True
                    if self._logged_details:
                        log.info("attached again", router=self._settings.router)
                    self._logged_details.clear()
                    self._process_state.ready.set()
                case ipc.RouterDetached(detail=detail):
                    self._renew_seconds = 0.0
                    self._process_state.ready.clear()
                    self._report_detached(detail)
                case ipc.Working():
                    worker.working.set()
                case ipc.MetricsRead(text=text):
                    if self._asked is not None:
                        self._asked.set_result(text)
                        self._asked = None
                case ipc.Quarantined(flow_id=flow_id, seconds=seconds):
                    self._quarantine(flow_id, seconds)
                case _:
                    log.warning("unexpected message from the child", kind=type(message).__name__)

    async def _metrics(self) -> bytes:
        """Return the metrics of the child; TimeoutError: there is none, or it is blocked."""
        if self._worker is None:
            raise TimeoutError
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self._worker.control.send(ipc.ReadMetrics())
        async with asyncio.timeout(METRICS_SECONDS):
            return await asyncio.shield(self._asked)

    def _report_detached(self, detail: str) -> None:
        """Publish why the router is not reachable; log each reason once, not with every attempt."""
        self._process_state.detail = detail
        if detail not in self._logged_details and not self._process_state.stop.is_set():
            log.warning("not attached; retrying", router=self._settings.router, detail=detail)
            self._logged_details.add(detail)

    async def _renew(self, worker: WorkerProcess, reports: exits.RouterReports) -> None:
        """Renew the child's leases while it is attached and its event loop is blocked."""
        while True:
            await asyncio.sleep(self._renew_seconds or 1.0)
            if not self._renew_seconds:
                continue
            silence = time.monotonic_ns() - worker.record.read().beat_ns
            if silence > self._renew_seconds * 1e9 / 2 and worker.is_progressing():
                await reports.renew()

    async def _stop(self, worker: WorkerProcess) -> None:
        """Drain the child once this runner is stopped; returns after the time that the child has to exit."""
        await self._process_state.stop.wait()
        worker.control.send(ipc.Shutdown(self._settings.drain_seconds))
        await asyncio.sleep(self._settings.drain_seconds + DRAIN_MARGIN)
        log.warning("the child did not drain in time")

    def _classify_exit(self, worker: WorkerProcess, decision: KillDecision | None) -> exits.Exit:
        """Classify a child's exit for the router, log it, and quarantine the flow that caused it."""
        draining, code = self._process_state.stop.is_set(), worker.process.returncode
        end = exits.classify(decision, worker.record.read(), code, drained=draining)
        if decision is not None and decision.snapshot is not None:
            self._kills += 1
            its = decision.snapshot
            log.warning("child killed", cause=decision.reason, flow=its.flow_id, task=its.instance)
        elif not (draining and code == 0):
            log.warning("child died", returncode=code, cause=decision.reason if decision else "not known")
        if end.flow_id:
            self._quarantine(end.flow_id, QUARANTINE_SECONDS)
        if not self._was_attached:  # it held no lease: the report concerns the leases of earlier children
            end = exits.Exit(explained=self._explained)
        return end

    def _quarantine(self, flow_id: str, seconds: float) -> None:
        self._quarantined[flow_id] = max(self._quarantined.get(flow_id, 0.0), time.monotonic() + seconds)

    def _in_quarantine(self) -> dict[str, float]:
        now = time.monotonic()
        self._quarantined = {flow_id: until for flow_id, until in self._quarantined.items() if until > now}
        return {flow_id: until - now for flow_id, until in self._quarantined.items()}

    async def _report(self, reports: exits.RouterReports, exit_: exits.Exit) -> None:
        """Report a child's exit to the router before another child attaches; during shutdown, with a short deadline."""
        reporting = asyncio.create_task(reports.exited(exit_, self._report_detached), name="report the exit")
        stopping = asyncio.create_task(self._process_state.stop.wait(), name="wait for stop")
        try:
            await asyncio.wait({reporting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if await wait_at_most(LAST_REPORT_SECONDS, reporting):
                self._explained = True
        finally:
            await end_tasks((reporting, stopping))
