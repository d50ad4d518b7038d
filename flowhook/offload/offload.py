"""Runs functions in processes apart, within limits, and refuses what would wait too long for one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError
from flowhook.offload.pool import ProcessPool
from flowhook.offload.worker import Function, InterruptedWorkError, OutOfMemoryError, Worker

SECONDS: Final = 10.0
"""CPU time of one call, unless `Offload` is told something else."""

MEMORY_BYTES: Final = 512 * limits.MIB
"""Memory of one process, likewise: parsed, the largest body takes some twenty times its size."""

MAX_WAITING: Final = 32
"""Calls of one key that wait: each holds its arguments."""

WAIT_SECONDS: Final = 30.0
"""That a call waits for a process: those of its key that are before it take too long, or none can be started."""

TRIES: Final = 2
"""Of a call whose process somebody else kills, or has no memory left of what it did before."""


class Offload:
    """The processes that work is offloaded to. Close it when nobody calls it any more."""

    def __init__(self, name: str, *, seconds: float = SECONDS, memory: int = MEMORY_BYTES) -> None:
        """Give each call `seconds` of CPU time and its process `memory` bytes; `name` says what for, in logs."""
        self._pool: ProcessPool[Worker] = ProcessPool(partial(Worker.start, seconds, memory), name)

    async def run(self, key: str, function: Function, *parts: bytes) -> list[bytes]:
        """Return what a function yields, called with `parts` in a process apart.

        Args:
            key: whose work it is: no key gets all processes.
            function: stands at the top of a module.
            parts: its arguments; the caller sees to it that they are no larger than they may be.

        Raises:
            InvalidError: the function did.
            TooCostlyError: it takes more CPU time or memory than it may.
            ExhaustedError: too much of `key` waits already, or for too long, or somebody else killed its processes
                (`OVERLOADED`).
            InternalError: the function raised something else.
        """
        if self._pool.waiting(key) >= MAX_WAITING:
            raise _overloaded()
        for _ in range(TRIES):
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(WAIT_SECONDS):
                        worker = await stack.enter_async_context(self._pool.process(key))
                except TimeoutError:
                    raise _overloaded() from None
                is_fresh = worker.is_fresh
                try:
                    return await worker.run(function, *parts)
                except OutOfMemoryError:
                    if is_fresh:
                        raise  # else what was done before may have left too little
                except InterruptedWorkError:
                    continue
        raise _overloaded()

    async def aclose(self) -> None:
        """End all processes."""
        await self._pool.aclose()


def _overloaded() -> ExhaustedError:
    return ExhaustedError("too much work waits to be done", reason="OVERLOADED")
