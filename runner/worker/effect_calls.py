"""Effects in flight: each is performed in a task of its own, with its steps recorded for the guard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import attrs

from flowhook.errors import UnavailableError
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from flowhook.sharing import Principal, current_principal
from runner.guard.evaluation_record import Activity, EvaluationRecord
from runner.interpreter.effects import EffectResult, Perform
from runner.metrics import METRICS
from runner.outbound.call_trace import CURRENT
from runner.outbound.destinations import CallGate, Destinations
from runner.outbound.request_bodies import Attachments
from runner.worker.active_execution import ActiveExecution
from runner.worker.effect_executor import EffectExecutor
from runner.worker.execution_spans import ExecutionTracing
from runner.worker.router_reads import SecretCache

Outcome = TypeVar("Outcome")

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class EffectCalls:
    """The effects in flight of all executions of a process."""

    _executor: EffectExecutor
    _secrets: SecretCache
    _record: EvaluationRecord
    _tasks: asyncio.TaskGroup
    _attachments: Callable[[ActiveExecution], Attachments]  # returns those of an execution's event
    # called with each result; it must ignore the result unless `is_in_flight`, and call `finish`
    _on_result: Callable[[ActiveExecution, Perform, EffectResult], None]
    _destinations: Destinations
    _tracing: ExecutionTracing
    executions: int = attrs.field(init=False, default=0)  # number of executions that have effects in flight

    def start(self, execution: ActiveExecution, effect: Perform) -> None:
        task = self._tasks.create_task(self._perform(execution, effect), name=f"{effect.function} {execution.event.id}")
        self.executions += not execution.calls
        execution.calls[effect.key] = (effect, task)

    def is_in_flight(self, execution: ActiveExecution, effect: Perform) -> bool:
        """Whether an effect is in flight. If not, it was cancelled, or its execution has ended."""
        call = execution.calls.get(effect.key)
        return call is not None and call[0] is effect

    def finish(self, execution: ActiveExecution, key: str) -> asyncio.Task[None] | None:
        """Remove an effect that has a result; returns its task, if it was in flight."""
        call = execution.calls.pop(key, None)
        self.executions -= call is not None and not execution.calls
        return None if call is None else call[1]

    def cancel(self, execution: ActiveExecution, key: str) -> None:
        task = self.finish(execution, key)
        if task is not None:
            task.cancel()

    def cancel_all(self, execution: ActiveExecution) -> None:
        """Cancel all effects of an execution, except for one that calls this itself."""
        for _, task in execution.calls.values():
            if task is not asyncio.current_task():
                task.cancel()
        self.executions -= bool(execution.calls)
        execution.calls.clear()

    async def _perform(self, execution: ActiveExecution, effect: Perform) -> None:
        flow_id = execution.event.flow_id
        current_principal.set(Principal("flow", flow_id))  # the task of this call has its own

        async def secret(name: str) -> bytes:
            while True:  # until the call's deadline cancels this
                try:
                    return (await self._secrets.resolve((name,), flow_id))[name]
                except UnavailableError as problem:
                    log.debug("router not available", reason=problem.reason)
                    await asyncio.sleep(RETRY_SECONDS)

        gate = CallGate(self._destinations, flow_id, execution.permit, effect.repeatable)
        CURRENT.set(self._tracing.of_call(execution.event, execution.spans, effect))
        attachments, about = self._attachments(execution), execution.log_fields
        call = self._executor.perform(execution.effect_scope, effect, secret, attachments, gate, about=about)
        began = time.monotonic()
        result = await MonitoredCoroutine(call, self._record, execution.lease, effect.instance)
        if not result.destination:  # else it was not called
            status = "completed" if result.error is None else "faulted"
            METRICS.called(flow_id, effect.function, status, time.monotonic() - began)
        self._on_result(execution, effect, result)


@attrs.define(eq=False, repr=False)
class MonitoredCoroutine(Generic[Outcome]):
    """Awaits a coroutine and writes each of its steps (the code between two awaits) to the shared record of the guard.

    So a call that blocks the event loop can be identified. Work that it delegates, above all to tasks that it creates,
    is not recorded.
    """

    _coroutine: Coroutine[Any, Any, Outcome]
    _record: EvaluationRecord
    _lease: bytes
    _instance: str

    def __await__(self) -> Generator[Any, Any, Outcome]:
        answer: Any = None
        problem: BaseException | None = None
        while True:
            self._record.assign(self._lease)
            self._record.begin(self._instance, Activity.STEP)
            try:
                awaited = self._coroutine.send(answer) if problem is None else self._coroutine.throw(problem)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            finally:
                self._record.end()
            answer = problem = None
            try:
                answer = yield awaited
            except BaseException as caught:  # noqa: BLE001 - thrown into the coroutine, cancellation included
                problem = caught
