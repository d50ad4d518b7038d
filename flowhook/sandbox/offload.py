"""Runs functions in separate processes, within limits, and rejects calls that would wait too long for a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.process.installation import REPLACED, was_replaced
from flowhook.sandbox.pool import ProcessPool
from flowhook.sandbox.worker import Function, InterruptedWorkError, OffloadWorker, OutOfMemoryError, ProcessLimits
from flowhook.sharing import Principal, SharedLimit
from flowhook.sharing.table import OffloadLimits

SECONDS: Final = 10.0  # default limit on the CPU time of one call
# default limit on the memory of one process: parsed, the largest body takes about twenty times its size
MEMORY_BYTES: Final = 512 * limits.MIB
# longest wait of a call for a process, while earlier calls of its key run or no process can be started
WAIT_SECONDS: Final = 30.0
TRIES: Final = 2  # attempts of a call whose process is killed from outside, or lacks memory because of earlier calls


StartWorker = Callable[[ProcessLimits], Awaitable[OffloadWorker]]


class Offload:
    """Runs functions in a pool of processes. Close it after the last call."""

    def __init__(
        self,
        name: str,
        *,
        seconds: float = SECONDS,
        memory: int = MEMORY_BYTES,
        shared: OffloadLimits = OffloadLimits(),
        imports: str = "",
        start: StartWorker | None = None,
    ) -> None:
        """Create the pool; `name` is its purpose, for logs.

        A call may take `seconds` of CPU time, a process `memory` bytes. Each process imports the module `imports` when
        it starts, which does not count against its calls; `start` starts one, by default `OffloadWorker.start`.
        """
        self.wait_seconds = WAIT_SECONDS
        self._bytes = SharedLimit(shared.waiting_bytes)
        self._pool: ProcessPool[OffloadWorker] = ProcessPool(
            partial(start or partial(OffloadWorker.start, imports=imports), ProcessLimits(seconds, memory)),
            name,
            shared.processes,
            check=_check_installation,
        )

    async def run(self, key: str, function: Function, *parts: bytes) -> list[bytes]:
        """Call a function of a module with `parts` in a separate process and return the values that it yields.

        `key` is the owner of the work: no single one can occupy all processes. The caller limits the size of `parts`.

        Raises:
            InvalidError: raised by the function.
            TooCostlyError: the call exceeds the limit on CPU time or memory.
            ExhaustedError: too many calls of `key` are waiting, the call waited too long, or its processes were killed
                from outside (`OVERLOADED`); or no process can be started because the installation of this one was
                replaced (`INSTALLATION_REPLACED`).
            InternalError: the function raised another exception.
        """
        limit = self._bytes.limit
        # a call that is larger than the share of its key is run when there is no other of that key
        size = min(max(sum(map(len, parts)), 1), limit.total // limit.parts)
        try:
            with self._bytes.acquire(Principal("flow", key), size):
                return await self._run(key, function, parts)
        except UnavailableError:
            raise _overloaded() from None

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
        await self._pool.aclose()


def _check_installation() -> None:
    """Fail at once if a process can't be started because there is nothing to start any more."""
    if was_replaced():
        raise ExhaustedError(REPLACED, reason="INSTALLATION_REPLACED")


def _overloaded() -> ExhaustedError:
    return ExhaustedError("too much work is waiting", reason="OVERLOADED")
