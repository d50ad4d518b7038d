"""As many evaluating processes as there may be, of which no single flow gets all, and threads to drive what they do."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

from flowhook.config import RunnerSettings
from flowhook.offload.pool import SIZE, ProcessPool
from runner.quarantine.evaluators import IsolatedEvaluator


class EvaluatorPool(ProcessPool[IsolatedEvaluator]):
    """The processes; they are started when they are needed."""

    def __init__(self, settings: RunnerSettings) -> None:
        """Start them with the limits of `settings`."""
        super().__init__(lambda: IsolatedEvaluator.start(settings), "quarantine")
        self.threads: Executor = ThreadPoolExecutor(SIZE, thread_name_prefix="quarantine")

    def evaluator(self, flow_id: str) -> AbstractAsyncContextManager[IsolatedEvaluator]:
        """Wait for a process and keep it for a while; flows take turns."""
        return self.process(flow_id)

    async def aclose(self) -> None:
        """End all processes, once `evaluator` is left by everybody."""
        await super().aclose()
        self.threads.shutdown(wait=False)
