"""Runs functions in separate processes, within limits, and rejects calls that would wait too long for a process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError
from flowhook.installation import REPLACED, was_replaced
from flowhook.offload.pool import ProcessPool
from flowhook.offload.worker import Function, InterruptedWorkError, OffloadWorker, OutOfMemoryError

SECONDS: Final = 10.0
"""Default limit on the CPU time of one call."""

MEMORY_BYTES: Final = 512 * limits.MIB
"""Default limit on the memory of one process: parsed, the largest body takes about twenty times its size."""

MAX_WAITING: Final = 1000
MAX_WAITING_BYTES: Final = 64 * limits.MIB
"""Calls of one key that are running or queued, and their arguments; one call may have more bytes than that."""

WAIT_SECONDS: Final = 30.0
"""Longest wait of a call for a process, while earlier calls of its key run or no process can be started."""

TRIES: Final = 2
"""Attempts of a call whose process is killed from outside, or lacks memory because of earlier calls."""


StartWorker = Callable[[float, int], Awaitable[OffloadWorker]]
"""Starts a process that allows so many seconds of CPU time for a call, and so many bytes of memory."""


class Offload:
    """Runs functions in a pool of processes. Close it after the last call.

    Attributes:
        wait_seconds: longest wait of a call for a process.
    """

    def __init__(
        self,
        name: str,
        *,
        seconds: float = SECONDS,
        memory: int = MEMORY_BYTES,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        start: StartWorker | None = None,
    ) -> None:
        """Create the pool.

        Args:
            name: purpose of the processes, for logs.
            seconds: CPU time of one call.
            memory: bytes of memory of one process.
            max_waiting: calls of one key that may be running or queued.
            max_waiting_bytes: size of their arguments; one call may have more.
            start: starts a process with `seconds` and `memory`; `OffloadWorker.start` by default.
        """
        self.wait_seconds = WAIT_SECONDS
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._bytes: Counter[str] = Counter()
        """Sizes of the arguments of all calls of a key."""
        self._pool: ProcessPool[OffloadWorker] = ProcessPool(
            partial(start or OffloadWorker.start, seconds, memory), name, check=_check_installation
        )

    async def run(self, key: str, function: Function, *parts: bytes) -> list[bytes]:
        """Call a function with `parts` in a separate process and return the values that it yields.

        Args:
            key: owner of the work, for fairness: no single key can occupy all processes.
            function: defined at the top level of a module.
            parts: its arguments; the caller limits their size.

        Raises:
            InvalidError: raised by the function.
            TooCostlyError: the call exceeds the limit on CPU time or memory.
            ExhaustedError: too many calls of `key` are waiting, the call waited too long, or its processes were killed
                from outside (`OVERLOADED`); or no process can be started because the installation of this one was
                replaced (`INSTALLATION_REPLACED`).
            InternalError: the function raised another exception.
        """
        size = sum(map(len, parts))
        calls = self._pool.active_callers(key)
        if calls >= self._max_waiting or (calls and self._bytes[key] + size > self._max_waiting_bytes):
            raise _overloaded()
        self._bytes[key] += size
        try:
            return await self._run(key, function, parts)
        finally:
            self._bytes[key] -= size
            if not self._bytes[key]:
                del self._bytes[key]

    async def _run(self, key: str, function: Function, parts: Sequence[bytes]) -> list[bytes]:
        for _ in range(TRIES):
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(self.wait_seconds):
                        worker = await stack.enter_async_context(self._pool.process(key))
                except TimeoutError:
                    raise _overloaded() from None
                is_fresh = worker.is_fresh
                try:
                    return await worker.run(function, *parts)
                except OutOfMemoryError:
                    if is_fresh:
                        raise  # otherwise earlier calls may have used up the memory
                except InterruptedWorkError:
                    continue
        raise _overloaded()

    async def aclose(self) -> None:
        """End all processes."""
        await self._pool.aclose()


def _check_installation() -> None:
    """Fail at once if a process can't be started because there is nothing to start any more."""
    if was_replaced():
        raise ExhaustedError(REPLACED, reason="INSTALLATION_REPLACED")


def _overloaded() -> ExhaustedError:
    return ExhaustedError("too much work is waiting", reason="OVERLOADED")
