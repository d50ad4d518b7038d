"""As many evaluating processes as there may be, of which no single flow gets all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from flowhook import logs
from flowhook.config import RunnerSettings
from runner.quarantine.evaluators import IsolatedEvaluator

SIZE: Final = 2
"""Processes at a time; each flow gets at most one of them."""

IDLE_SECONDS: Final = 60.0
"""After which a process that nobody needed is ended."""

RETRY_SECONDS: Final = 0.5
"""Between two tries to start a process."""

log = logs.get_logger(__name__)


@dataclass(slots=True)
class _Line:
    """Those of one flow that want a process: one after another."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class EvaluatorPool:
    """The processes; they are started when they are needed."""

    def __init__(self, settings: RunnerSettings) -> None:
        """Start them with the limits of `settings`."""
        self._settings = settings
        self._places = asyncio.Semaphore(SIZE)
        self._lines: dict[str, _Line] = {}
        self._idle: list[tuple[IsolatedEvaluator, asyncio.TimerHandle]] = []
        self._is_lacking = False
        self._pending: set[asyncio.Task[Any]] = set()
        """Processes that are being started or ended."""
        self.threads: Executor = ThreadPoolExecutor(SIZE, thread_name_prefix="quarantine")

    @asynccontextmanager
    async def evaluator(self, flow_id: str) -> AsyncIterator[IsolatedEvaluator]:
        """Wait for a process and keep it for a while; flows take turns. One that can't be started is tried again."""
        line = self._lines.setdefault(flow_id, _Line())
        line.length += 1
        try:
            async with line.lock, self._places:
                evaluator = self._take_idle() or await self._start_somehow()
                try:
                    yield evaluator
                finally:
                    self._put_back(evaluator)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[flow_id]

    async def _start_somehow(self) -> IsolatedEvaluator:
        """Start a process, however often it takes; log once that it can't be done."""
        while True:
            try:
                evaluator = await self._start()
            except OSError as problem:
                if not self._is_lacking:
                    log.error("no process for quarantine; trying again", cause=str(problem))  # noqa: TRY400 - no trace
                self._is_lacking = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._is_lacking = False
                return evaluator

    async def _start(self) -> IsolatedEvaluator:
        """Start a process; one whose start is called off is kept for the next who needs one."""
        starting = asyncio.create_task(IsolatedEvaluator.start(self._settings), name="start evaluator")
        self._pending.add(starting)
        starting.add_done_callback(self._pending.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._keep)
            raise

    def _keep(self, starting: asyncio.Task[IsolatedEvaluator]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._put_back(starting.result())

    def _take_idle(self) -> IsolatedEvaluator | None:
        while self._idle:
            evaluator, timer = self._idle.pop()
            timer.cancel()
            if evaluator.is_alive:
                return evaluator
            self._end(evaluator)
        return None

    def _put_back(self, evaluator: IsolatedEvaluator) -> None:
        if not evaluator.is_alive:
            self._end(evaluator)
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_idle, evaluator)
        self._idle.append((evaluator, timer))

    def _end_idle(self, evaluator: IsolatedEvaluator) -> None:
        self._idle = [each for each in self._idle if each[0] is not evaluator]
        self._end(evaluator)

    def _end(self, evaluator: IsolatedEvaluator) -> None:
        task = asyncio.create_task(evaluator.close(), name="close evaluator")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def aclose(self) -> None:
        """End all processes, once `evaluator` is left by everybody."""
        while self._pending or self._idle:
            await asyncio.gather(*self._pending, return_exceptions=True)
            await asyncio.sleep(0)  # for what is done with those that were started
            while self._idle:
                evaluator, timer = self._idle.pop()
                timer.cancel()
                self._end(evaluator)
        self.threads.shutdown(wait=False)
