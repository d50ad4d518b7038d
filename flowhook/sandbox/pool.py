"""Bounded process pool in which no single key (a flow, for example) can occupy all processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from flowhook.sharing import FairQueue, Limit, Principal

IDLE_SECONDS: Final = 60.0  # idle time after which a process is ended

log = logs.get_logger(__name__)


class PooledProcess(Protocol):
    """A process that can be reused."""

    @property
    def is_alive(self) -> bool:
        """Whether it can be used again."""

    async def close(self) -> None:
        """End the process."""


P = TypeVar("P", bound=PooledProcess)


class ProcessPool(Generic[P]):
    """Pool of processes, which are started on demand. Callers wait for them, and take turns by key."""

    def __init__(
        self,
        start: Callable[[], Awaitable[P]],
        name: str,
        limit: Limit,
        *,
        retry_seconds: float = RETRY_SECONDS,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a pool; `name` is the purpose of its processes, for logs.

        `start` starts a process, or raises `OSError`; then that is tried again after `retry_seconds`, unless `check`
        raises an error because it is in vain. `limit`: processes at a time, and callers that may wait for them.
        """
        self._start_one = start
        self._retry_seconds = retry_seconds
        self._name = name
        self._check = check
        self._queue = FairQueue(limit)
        self._idle: list[tuple[P, asyncio.TimerHandle]] = []
        self._is_lacking = False
        self._pending: set[asyncio.Future[Any]] = set()  # processes that are being started or ended

    @asynccontextmanager
    async def process(self, key: str) -> AsyncIterator[P]:
        """Acquire a process for the duration of the block. Failed starts are retried.

        Raises:
            ExhaustedError: too many callers of the key wait (`OVERLOADED`).
            UnavailableError: too many callers of all keys wait (`OVERLOADED`).
        """
        async with self._queue.seat(Principal("flow", key)):
            process = self._take_idle() or await self._start_somehow()
            try:
                yield process
            finally:
                self._put_back(process)

    async def _start_somehow(self) -> P:
        """Start a process, with any number of retries; log the first of consecutive failures."""
        while True:
            try:
                process = await self._start()
            except OSError as problem:
                if not self._is_lacking:
                    log.error(  # noqa: TRY400 - no trace
                        "a process can't be started; trying again", purpose=self._name, cause=str(problem)
                    )
                self._is_lacking = True
                self._check()
                await asyncio.sleep(self._retry_seconds)
            else:
                self._is_lacking = False
                return process

    async def _start(self) -> P:
        """Start a process; if the caller is cancelled meanwhile, add the process to the idle ones."""
        starting = asyncio.ensure_future(self._start_one())
        self._pending.add(starting)
        starting.add_done_callback(self._pending.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._keep)
            raise

    def _keep(self, starting: asyncio.Future[P]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._put_back(starting.result())

    def _take_idle(self) -> P | None:
        while self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
            if process.is_alive:
                return process
            self._end(process)
        return None

    def _put_back(self, process: P) -> None:
        if not process.is_alive:
            self._end(process)
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_idle, process)
        self._idle.append((process, timer))

    def _end_idle(self, process: P) -> None:
        self._idle = [each for each in self._idle if each[0] is not process]
        self._end(process)

    def _end(self, process: P) -> None:
        task = asyncio.create_task(process.close(), name=f"close process for {self._name}")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def aclose(self) -> None:
        """End all processes, after all blocks of `process` are left."""
        while self._pending or self._idle:
            await asyncio.gather(*self._pending, return_exceptions=True)
            await asyncio.sleep(0)  # let the callbacks of started processes run
            while self._idle:
                process, timer = self._idle.pop()
                timer.cancel()
                self._end(process)
