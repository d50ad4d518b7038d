"""Executions in hand: each is driven from step to step, synchronously while it needs no I/O.

One pump drives them all, because expressions are evaluated one at a time anyway. What needs the world gets a task of
its own; its result comes back through the pump.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from flowhook import logs
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.event_input import workflow_input
from flowhook.model import Event, JournalEntry, WorkflowError
from flowhook.wire import convert
from runner import metrics, session
from runner.calls import Caller, place_of
from runner.guard.record import Record
from runner.interpreter import effects
from runner.interpreter.errors import USED_SECRETS, Kind, TaskFault, error
from runner.interpreter.program import Program
from runner.interpreter.run import Run
from runner.interpreter.scope import Workflow
from runner.secret_values import as_data
from runner.worker.flows import Flows
from runner.worker.secrets import Secrets

TURN_SECONDS: Final = 0.005
"""How long executions may run before the stream gets its turn."""

LONG_TURN_SECONDS: Final = 0.1
REST_SECONDS: Final = 0.01
"""After a turn that took so long, by a slow expression, the stream gets more than one look, for its leases."""

RETRY_SECONDS: Final = 0.5
"""Pause before the router is asked again for what an execution needs."""

log = logs.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Execution:
    """One attempt in hand.

    Attributes:
        written: journal entries there are, durable or not.
        durable: journal entries known to be durable.
        next: the effect that waits until the journal is durable.
        task: what fetches or performs something for it just now.
    """

    lease: bytes
    event: Event
    revision: int
    journal: tuple[JournalEntry, ...]
    run: Run | None = None
    written: int = 0
    durable: int = 0
    next: effects.Perform | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Executions:
    """All executions of this process."""

    def __init__(
        self,
        *,
        link: session.Session,
        flows: Flows,
        secrets: Secrets,
        caller: Caller,
        record: Record,
        tasks: asyncio.TaskGroup,
        announce: Callable[[], None],
    ) -> None:
        """Start with none.

        Args:
            link: takes checkpoints and outcomes.
            flows: programs.
            secrets: values that flows and components name.
            caller: performs effects.
            record: is told whose expressions are evaluated.
            tasks: whatever runs beside the pump runs in it.
            announce: called when `link` has something to say.
        """
        self._link = link
        self._flows = flows
        self._secrets = secrets
        self._caller = caller
        self._record = record
        self._tasks = tasks
        self._announce = announce
        self._in_hand: dict[bytes, _Execution] = {}
        self._ready: deque[tuple[_Execution, effects.Result | None]] = deque()
        self._wake = asyncio.Event()
        self._draining = False
        self._turn_ends = 0.0

    def start(self, assignment: session.Assignment) -> None:
        """Begin to work on an assignment."""
        if self._draining:
            self._link.finish(assignment.lease, session.Released("DRAINING", charged=False))
            self._announce()
            return
        try:
            event = convert.event_from_bytes(assignment.event)
        except DecodeError:
            problem = error(Kind.RUNTIME, "the stored event is damaged")
            self._link.finish(assignment.lease, session.Faulted(problem))
            self._announce()
            return
        execution = _Execution(assignment.lease, event, assignment.flow_revision, assignment.journal)
        execution.written = execution.durable = len(assignment.journal)
        self._in_hand[assignment.lease] = execution
        metrics.RUNNING.set(len(self._in_hand))
        program = self._flows.cached(event.flow_id, assignment.flow_revision)
        if program is not None and not program.secrets:
            self._begin(execution, program, {})
        else:
            execution.task = self._tasks.create_task(self._prepare(execution), name=f"prepare {event.id}")

    def proceed(self, lease: bytes, index: int) -> None:
        """Note that a journal is durable up to `index`; start the effect that waited for it."""
        execution = self._in_hand.get(lease)
        if execution is None:
            return
        execution.durable = max(execution.durable, index + 1)
        if execution.next is not None and execution.durable >= execution.written:
            effect, execution.next = execution.next, None
            self._launch(execution, effect)

    def abandon(self, lease: bytes) -> None:
        """Stop working on a lease that is lost."""
        execution = self._in_hand.get(lease)
        if execution is not None:
            self._remove(execution, "abandoned")

    def give_back(self) -> None:
        """Give back everything in hand, uncharged, and whatever still comes."""
        self._draining = True
        for execution in list(self._in_hand.values()):
            self._end(execution, session.Released("DRAINING", charged=False), "released")

    async def pump(self) -> None:
        """Drive executions for as long as the process works."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._turn_ends = time.monotonic() + TURN_SECONDS
            while self._ready:
                self._drive(*self._ready.popleft())
                late = time.monotonic() - self._turn_ends
                if late > 0:
                    await asyncio.sleep(0 if late < LONG_TURN_SECONDS else REST_SECONDS)
                    self._turn_ends = time.monotonic() + TURN_SECONDS

    def _overdue(self) -> bool:
        return time.monotonic() > self._turn_ends

    async def _prepare(self, execution: _Execution) -> None:
        """Fetch what an execution needs, for as long as its lease lasts."""
        flow_id = execution.event.flow_id
        while True:
            try:
                program = await self._flows.load(flow_id, execution.revision)
                values = await self._secrets.resolve(program.secrets, flow_id) if program.secrets else {}
            except UnavailableError as problem:
                log.debug("router not available", reason=problem.reason)
                await asyncio.sleep(RETRY_SECONDS)
            except FlowhookError as problem:
                detail = f"{flow_id} can't be run: {problem.message}"
                self._end(execution, session.Faulted(error(Kind.CONFIGURATION, detail)), "faulted")
                return
            except TaskFault as problem:
                self._end(execution, session.Faulted(problem.at(USED_SECRETS).error), "faulted")
                return
            except Exception as problem:  # noqa: BLE001 - it ends this execution, not the process with all the others
                self._end(execution, session.Faulted(_defect(execution, problem)), "faulted")
                return
            else:
                execution.task = None
                self._begin(execution, program, values)
                return

    def _begin(self, execution: _Execution, program: Program, secrets: dict[str, bytes]) -> None:
        event = execution.event
        try:
            data = workflow_input(event)
        except Exception as problem:  # noqa: BLE001 - the same
            self._end(execution, session.Faulted(_defect(execution, problem)), "faulted")
            return
        workflow = Workflow(
            id=event.id,
            definition=program.definition,
            raw_input=data,
            started_at_ms=event.receive_time_ms,
            clock=_now_ms,
            secrets=as_data(secrets),
            overdue=self._overdue,
        )
        execution.run = Run(program, workflow, execution.journal)
        self._queue(execution, None)

    def _queue(self, execution: _Execution, result: effects.Result | None) -> None:
        self._ready.append((execution, result))
        self._wake.set()

    def _drive(self, execution: _Execution, result: effects.Result | None) -> None:
        run = execution.run
        if run is None or self._in_hand.get(execution.lease) is not execution:
            return  # abandoned meanwhile
        self._record.assign(execution.lease)
        try:
            step = run.resume(result) if run.started else run.start()
        except Exception as problem:  # noqa: BLE001 - the same
            step = effects.Faulted(_defect(execution, problem))
        match step:
            case effects.Perform():
                if execution.durable < execution.written:
                    execution.next = step
                else:
                    self._launch(execution, step)
            case effects.Pause():
                self._queue(execution, None)
            case effects.Completed(output=output):
                self._end(execution, session.Completed(output), "completed")
            case effects.Faulted(error=problem_):
                self._end(execution, session.Faulted(problem_), "faulted")

    def _launch(self, execution: _Execution, effect: effects.Perform) -> None:
        execution.task = self._tasks.create_task(
            self._perform(execution, effect), name=f"{effect.function} {execution.event.id}"
        )

    async def _perform(self, execution: _Execution, effect: effects.Perform) -> None:
        flow_id = execution.event.flow_id

        async def secret(name: str) -> bytes:
            while True:  # for as long as the call may take
                try:
                    return (await self._secrets.resolve((name,), flow_id))[name]
                except UnavailableError as problem:
                    log.debug("router not available", reason=problem.reason)
                    await asyncio.sleep(RETRY_SECONDS)

        result = await self._caller.perform(execution.event.id, effect, secret)
        if self._in_hand.get(execution.lease) is not execution:
            return
        execution.task = None
        if result.error is None or effect.catchable:
            entry = JournalEntry(effect.key, result.output, result.error)
            self._link.checkpoint(execution.lease, execution.written, entry)
            execution.written += 1
            # before the pump wakes: the checkpoint is on its way when the next expression is evaluated
            self._announce()
        self._queue(execution, result)

    def _end(self, execution: _Execution, ending: session.Ending, outcome: str) -> None:
        self._link.finish(execution.lease, ending)
        self._remove(execution, outcome)
        self._announce()

    def _remove(self, execution: _Execution, outcome: str) -> None:
        self._in_hand.pop(execution.lease, None)
        task, execution.task = execution.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        metrics.EXECUTIONS.labels(outcome).inc()
        metrics.RUNNING.set(len(self._in_hand))


def perform_all(effects_: Collection[session.Effect], executions: Executions) -> None:
    """Do what the session asks for, as far as it concerns executions."""
    for effect in effects_:
        match effect:
            case session.Start(assignment=assignment):
                executions.start(assignment)
            case session.Proceed(lease=lease, index=index):
                executions.proceed(lease, index)
            case session.Abandon(lease=lease):
                executions.abandon(lease)
            case _:
                pass


def _defect(execution: _Execution, problem: Exception) -> WorkflowError:
    cause = type(problem).__name__
    log.error("interpreter failed", execution=execution.event.id, cause=cause, place=place_of(problem))
    return error(Kind.RUNTIME, f"the interpreter failed ({cause}); this is a defect of Flowhook")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
