"""Drives executions of flows in quarantine, in threads; separate processes evaluate expressions and parse bodies."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs

from flowhook.model import Event
from flowhook.process import logs
from runner.evaluation.supervision import SLOW_NS
from runner.guard.watchdog import QUARANTINE_SECONDS
from runner.interpreter.effects import Step
from runner.interpreter.execution_machine import ExecutionMachine
from runner.metrics import METRICS
from runner.quarantine.isolated_evaluator import (
    EvaluationInterrupted,
    EvaluationKilled,
    EvaluatorPool,
    IsolatedEvaluator,
)
from runner.quarantine.quarantined_flows import QuarantinedFlows
from runner.worker.active_execution import ActiveExecution

TURN_SECONDS: Final = 0.1  # time that one execution runs before others of its flow get their turn

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class QuarantineDriver:
    """Drives executions of flows in quarantine; `in` tests whether a flow is in it."""

    _flows: QuarantinedFlows
    _pool: EvaluatorPool

    def __contains__(self, flow_id: str) -> bool:
        return flow_id in self._flows

    async def drive(
        self, execution: ActiveExecution, machine: ExecutionMachine, step: Callable[[], Step]
    ) -> Step | None:
        """Wait for a process, run `step` of the `machine` (blocking) in a thread, and return the result.

        If an expression had to be killed, it ends in a fault and holds the entries written before. None: the process
        was killed by something else, for an unknown cause.
        """
        workflow = execution.workflow
        assert workflow is not None  # noqa: S101 - for the type checker: it is set together with `machine`
        try:
            async with self._evaluator(execution.event) as evaluator:
                ends, must_yield = time.monotonic() + TURN_SECONDS, workflow.must_yield
                workflow.remote_evaluator, workflow.must_yield = evaluator, lambda: time.monotonic() > ends
                try:
                    return await evaluator.run(step, self._pool.threads)
                finally:
                    workflow.remote_evaluator, workflow.must_yield = None, must_yield
        except EvaluationKilled as end:
            return machine.fault(end.error)
        except EvaluationInterrupted:
            return None

    async def event_input(self, event: Event, **options: Any) -> str:
        """Wait for a process and parse an event in it; see `IsolatedEvaluator.event_input` and `run`."""
        async with self._evaluator(event) as evaluator:
            return await evaluator.run(partial(evaluator.event_input, event, **options), self._pool.threads)

    @asynccontextmanager
    async def _evaluator(self, event: Event) -> AsyncIterator[IsolatedEvaluator]:
        """Wait for a process for the flow of an event; extend the flow's quarantine if its evaluations misbehave."""
        flow_id = event.flow_id
        try:
            async with self._pool.process(flow_id) as evaluator:
                try:
                    yield evaluator
                finally:
                    if evaluator.reset_slowest() > SLOW_NS:
                        self._flows.add(flow_id)
        except EvaluationKilled as end:
            self._flows.add(flow_id, QUARANTINE_SECONDS)
            METRICS.kills += 1
            log.warning("evaluation killed", flow=flow_id, task=end.error.instance, cause=end.error.detail)
            raise
        except EvaluationInterrupted:
            log.warning("evaluation interrupted", flow=flow_id, execution=event.id)
            raise
