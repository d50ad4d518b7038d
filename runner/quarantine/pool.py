"""A bounded pool of evaluating processes, shared fairly among flows, with the threads that use them."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

from flowhook.config import RunnerSettings
from flowhook.offload.pool import SIZE, ProcessPool
from runner.quarantine.isolated_evaluator import IsolatedEvaluator


class EvaluatorPool(ProcessPool[IsolatedEvaluator]):
    """The pool; processes are started on demand."""

    def __init__(self, settings: RunnerSettings) -> None:
        """Start processes with the limits of `settings`."""
        super().__init__(lambda: IsolatedEvaluator.start(settings), "quarantine")
        self.threads: Executor = ThreadPoolExecutor(SIZE, thread_name_prefix="quarantine")

    def evaluator(self, flow_id: str) -> AbstractAsyncContextManager[IsolatedEvaluator]:
        """Wait for a process and reserve it for the caller; flows take turns."""
        return self.process(flow_id)

    async def aclose(self) -> None:
        """Stop all processes; call it when no `evaluator` context is open."""
        await super().aclose()
        self.threads.shutdown(wait=False)
