"""Handle of a worker process in its parent: starts it, sends it calls, and translates its failures."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, Self

from flowhook.errors import InternalError, InvalidError
from flowhook.offload import frames, process
from flowhook.offload.spawning import SpawnedProcess, spawn

START_SECONDS: Final = 60.0
"""Time limit for starting a process: about a hundred times what it takes."""

WALL_SECONDS: Final = 120.0
"""Wall-clock limit of a call: about ten times its limit on CPU time."""

COMMAND: Final = ("-I", "-m", "flowhook.offload.process")
"""Arguments of Python: `-I` ignores the environment, the user's packages and the current directory."""

Function = Callable[..., Iterable[bytes]]
"""A function from bytes to an iterable of bytes, defined at the top level of a module."""


class TooCostlyError(InvalidError):
    """A call needs more CPU time or memory than allowed; a retry would fail in the same way."""

    default_reason = "TOO_COSTLY"


class OutOfMemoryError(TooCostlyError):
    """A call needs more memory than is left: the whole limit, if the process has run no other call before."""


class InterruptedWorkError(Exception):
    """The process was killed from outside; whether its call was the reason is unknown."""


class OffloadWorker:
    """A worker process, which runs one call at a time.

    Attributes:
        is_fresh: whether it has not run any call yet.
    """

    def __init__(
        self,
        started: SpawnedProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: tuple[float, int],
        wall_seconds: float = WALL_SECONDS,
    ) -> None:
        self._process = started
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._wall_seconds = wall_seconds
        self._is_usable = True
        self.is_fresh = True

    @classmethod
    async def start(
        cls, seconds: float, memory: int, *, command: Sequence[str] = COMMAND, wall_seconds: float = WALL_SECONDS
    ) -> Self:
        """Start a process.

        Args:
            seconds: limit on the CPU time of one call.
            memory: limit on the memory of the process, in bytes.
            command: arguments of Python.
            wall_seconds: wall-clock limit of a call.

        Raises:
            OSError: the process can't be started.
        """
        started, ours = spawn(*command, options=(seconds, memory))
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(started, reader, writer, (seconds, memory), wall_seconds)
        try:
            await worker._greet()
        except BaseException:
            await worker.close()
            raise
        return worker

    async def _greet(self) -> None:
        """Wait until the process is ready; the time that it takes to start does not count against its calls."""
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
        """Whether it can run another call."""
        return self._is_usable and self._process.returncode is None

    async def run(self, function: Function, *parts: bytes) -> list[bytes]:
        """Call a function and return the values that it yields. After a cancellation the process must be closed.

        Raises:
            InvalidError: raised by the function.
            TooCostlyError: the call exceeded a limit.
            InterruptedWorkError: the process was killed.
            InternalError: the function raised another exception.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        self._is_usable, self.is_fresh = False, False
        try:
            self._writer.write(frames.encode(process.CALL, name.encode(), *parts))
            await self._writer.drain()
            async with asyncio.timeout(self._wall_seconds):
                kind, result = await frames.read(self._reader)
        except TimeoutError:  # the process is stopped, or gets hardly any CPU time
            self._process.kill()
            raise InterruptedWorkError from None
        except (EOFError, OSError):
            self._explain(await self._process.wait())
        self._is_usable = kind != process.TOO_LARGE  # its memory may be fragmented
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
        if code in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):  # typical of libraries that run out of memory
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
