"""A bounded pool of evaluating processes, shared fairly among flows, with the threads that use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Final

from flowhook.offload.pool import RETRY_SECONDS, ProcessPool
from flowhook.process.settings import RunnerSettings
from flowhook.sharing.table import OffloadLimits
from runner.quarantine.isolated_evaluator import IsolatedEvaluator

MAX_EXECUTIONS: Final = 100_000
"""More executions than a runner can have."""


class EvaluatorPool(ProcessPool[IsolatedEvaluator]):
    """The pool; processes are started on demand."""

    def __init__(
        self,
        settings: RunnerSettings,
        *,
        start: Callable[[RunnerSettings], Awaitable[IsolatedEvaluator]] = IsolatedEvaluator.start,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Start processes with the limits of `settings`, again after `retry_seconds` if one can't be started."""
        # the executions of a runner are limited already: all of them may wait
        limit = replace(OffloadLimits().processes, waiting=MAX_EXECUTIONS)
        super().__init__(partial(start, settings), "quarantine", limit, retry_seconds=retry_seconds)
        self.threads: Executor = ThreadPoolExecutor(limit.total, thread_name_prefix="quarantine")

    def evaluator(self, flow_id: str) -> AbstractAsyncContextManager[IsolatedEvaluator]:
        """Wait for a process and reserve it for the caller; flows take turns."""
        return self.process(flow_id)

    async def aclose(self) -> None:
        """Stop all processes; call it when no `evaluator` context is open."""
        await super().aclose()
        self.threads.shutdown(wait=False)
