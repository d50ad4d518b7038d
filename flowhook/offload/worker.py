"""One process that runs functions, as its parent sees it."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Callable, Iterable
from typing import Final, NoReturn, Self

from flowhook.errors import InternalError, InvalidError
from flowhook.offload import frames, process
from flowhook.offload.spawning import SpawnedProcess, spawn

START_SECONDS: Final = 60.0
"""That a process may take to start: some hundred times what it needs."""

WALL_SECONDS: Final = 120.0
"""That a call may take in all: some ten times what it may compute."""

COMMAND: Final = ("-I", "-m", "flowhook.offload.process")
"""What Python is told to run: without the environment, the user's packages and the folder it is started in."""

Function = Callable[..., Iterable[bytes]]
"""Takes bytes and yields bytes; stands at the top of a module."""


class TooCostlyError(InvalidError):
    """Work needs more CPU time or memory than it may have; so it will the next time."""

    default_reason = "TOO_COSTLY"


class OutOfMemoryError(TooCostlyError):
    """Work needs more memory than is left: all that the process may have, if it did nothing before."""


class InterruptedWorkError(Exception):
    """Somebody else killed the process: whether for its work nobody knows."""


class Worker:
    """One process; it does one thing at a time.

    Attributes:
        is_fresh: whether it has done nothing yet.
    """

    def __init__(
        self,
        started: SpawnedProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: tuple[float, int],
    ) -> None:
        self._process = started
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._is_usable = True
        self.is_fresh = True

    @classmethod
    async def start(cls, seconds: float, memory: int) -> Self:
        """Start a process.

        Args:
            seconds: CPU time of one call.
            memory: bytes that the process may have in all.

        Raises:
            OSError: it can't be started.
        """
        started, ours = spawn(*COMMAND, options=(seconds, memory))
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(started, reader, writer, (seconds, memory))
        try:
            await worker._greet()
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _greet(self) -> None:
        """Wait until the process can be asked; what it takes to start is not held against its work."""
        try:
            async with asyncio.timeout(START_SECONDS):
                kind, _ = await frames.read(self._reader)
        except (EOFError, ConnectionError):
            code = await self._process.wait()
            raise OSError(errno.ECONNRESET, f"it ended while it started, with exit code {code}") from None
        if kind != frames.READY:
            raise OSError(errno.EPROTO, "it says something else than that it is ready")

    @property
    def is_alive(self) -> bool:
        """Whether it can do something else."""
        return self._is_usable and self._process.returncode is None

    async def run(self, function: Function, *parts: bytes) -> list[bytes]:
        """Return what a function yields. Cancelled, it kills the process.

        Raises:
            InvalidError: the function did.
            TooCostlyError: it took too much.
            InterruptedWorkError: the process was killed.
            InternalError: the function raised something else.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        self._is_usable, self.is_fresh = False, False
        try:
            self._writer.write(frames.encode(process.CALL, name.encode(), *parts))
            await self._writer.drain()
            async with asyncio.timeout(WALL_SECONDS):
                kind, result = await frames.read(self._reader)
        except TimeoutError:  # it was stopped, or gets hardly any time
            self._process.kill()
            raise InterruptedWorkError from None
        except (EOFError, OSError):
            self._explain(await self._process.wait())
        self._is_usable = kind != process.TOO_LARGE  # its memory may be in pieces
        if kind == process.INVALID:
            raise InvalidError(result[1].decode(), reason=result[0].decode())
        if kind == process.TOO_LARGE:
            raise self._too_much_memory()
        if kind == process.FAILURE:
            raise InternalError(f"{name} failed with {result[0].decode()}")
        return result

    def _explain(self, code: int) -> NoReturn:
        if code == -signal.SIGPROF:
            raise TooCostlyError(f"it takes more than {self._limits[0]:g} s of CPU time")
        if code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):  # as libraries end that get no memory
            raise self._too_much_memory()
        raise InterruptedWorkError

    def _too_much_memory(self) -> OutOfMemoryError:
        return OutOfMemoryError(f"it takes more than {self._limits[1] >> 20} MiB of memory")

    async def close(self) -> None:
        """End the process."""
        self._is_usable = False
        if self._process.returncode is None:
            self._process.kill()
        self._writer.close()
        await self._process.wait()
