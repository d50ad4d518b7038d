"""Drives executions of flows in quarantine: in threads, with their expressions evaluated in processes apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flowhook import logs
from runner import metrics
from runner.evaluator import SLOW_NS
from runner.interpreter.effects import Turn
from runner.interpreter.run import Run
from runner.quarantine import QUARANTINE_SECONDS
from runner.quarantine.evaluators import EvaluationEnded, EvaluationInterrupted
from runner.quarantine.flows import QuarantinedFlows
from runner.quarantine.pool import EvaluatorPool
from runner.worker.execution import Execution

TURN_SECONDS: Final = 0.1
"""How long one execution may run before others of its flow get their turn."""

log = logs.get_logger(__name__)


class Quarantine:
    """The flows in quarantine, by `in`, and what drives their executions."""

    def __init__(self, flows: QuarantinedFlows, pool: EvaluatorPool) -> None:
        """Evaluate for `flows` in processes of `pool`."""
        self._flows = flows
        self._pool = pool

    def __contains__(self, flow_id: str) -> bool:
        """Whether expressions of a flow are evaluated apart."""
        return flow_id in self._flows

    async def turn(self, execution: Execution, run: Run, step: Callable[[], Turn]) -> Turn | None:
        """Wait for a process, take one step of an execution in a thread, and return what came of it.

        Args:
            execution: that is in hand.
            run: its own.
            step: drives `run`. Blocking.

        Returns:
            The fault of an execution whose expression had to be ended, with what it had written before. None: somebody
            else killed the process, and nobody knows whether for that.

        Raises:
            Exception: what `step` raises.
        """
        flow_id, workflow = execution.event.flow_id, execution.workflow
        assert workflow is not None  # noqa: S101 - for the type checker: it was made with the run
        try:
            async with self._pool.evaluator(flow_id) as evaluator:
                workflow.elsewhere, execution.turn_ends = evaluator, time.monotonic() + TURN_SECONDS
                try:
                    return await evaluator.run(step, self._pool.threads)
                finally:
                    workflow.elsewhere, execution.turn_ends = None, 0.0
                    if evaluator.take_slowest() > SLOW_NS:
                        self._flows.add(flow_id)
        except EvaluationEnded as end:
            self._flows.add(flow_id, QUARANTINE_SECONDS)
            metrics.EVALUATION_KILLS.inc()
            log.warning("evaluation killed", flow=flow_id, task=end.error.instance, cause=end.error.detail)
            return run.fault(end.error)
        except EvaluationInterrupted:
            log.warning("evaluation interrupted", flow=flow_id, execution=execution.event.id)
            return None
