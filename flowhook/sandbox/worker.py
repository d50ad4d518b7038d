"""Handle of a worker process in its parent: starts it, sends it calls, and translates its failures."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

import attrs

from flowhook.errors import InternalError, InvalidError
from flowhook.sandbox import frames, process
from flowhook.sandbox.spawning import SpawnedProcess, python_command, socket_pair, spawn

START_SECONDS: Final = 60.0  # time limit for starting a process: about a hundred times what it takes
WALL_SECONDS: Final = 120.0  # wall-clock limit of a call: about ten times its limit on CPU time
# exit codes that are typical of libraries that run out of memory
_OUT_OF_MEMORY: Final = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
COMMAND: Final = python_command("flowhook.sandbox.process")
Function = Callable[..., Iterable[bytes]]  # from bytes to an iterable of bytes, at the top level of a module
Answer = tuple[bytes, list[bytes]]  # a frame: its kind, and its parts


@attrs.frozen
class ProcessLimits:
    """The limits of a process."""

    seconds: float  # CPU time of one call
    memory: int  # memory of the process, in bytes


class TooCostlyError(InvalidError):
    """A call needs more CPU time or memory than allowed; a retry would fail in the same way."""

    default_reason = "TOO_COSTLY"


class OutOfMemoryError(TooCostlyError):
    """A call needs more memory than is left: the whole limit, if the process has run no other call before."""


class InterruptedWorkError(Exception):
    """The process was killed from outside; whether its call was the reason is unknown."""


@attrs.define(eq=False, repr=False)
class OffloadWorker:
    """A worker process, which runs one call at a time."""

    _process: SpawnedProcess
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _limits: ProcessLimits
    _wall_seconds: float = WALL_SECONDS
    _is_usable: bool = attrs.field(init=False, default=True)
    is_fresh: bool = attrs.field(init=False, default=True)  # whether it has not run any call yet

    @classmethod
    async def start(
        cls,
        limits: ProcessLimits,
        *,
        imports: str = "",
        command: Sequence[str] = COMMAND,
        wall_seconds: float = WALL_SECONDS,
    ) -> Self:
        """Start a process, by `start_process`; each call may take `wall_seconds`. Raises `OSError` if it can't."""
        started, ours = start_process(limits, imports=imports, command=command)
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(started, reader, writer, limits, wall_seconds)
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
        return self._is_usable and self._process.returncode is None

    async def run(self, function: Function, *parts: bytes) -> list[bytes]:
        """Call a function and return the values that it yields. After a cancellation the process must be closed.

        Raises:
            InvalidError: raised by the function.
            TooCostlyError: the call exceeded a limit.
            InterruptedWorkError: the process was killed.
            InternalError: the function raised another exception.
        """
        self._is_usable, self.is_fresh = False, False
        try:
            self._writer.write(encode_call(function, parts))
            await self._writer.drain()
            async with asyncio.timeout(self._wall_seconds):
                answer = await frames.read(self._reader)
        except TimeoutError:  # the process is stopped, or gets hardly any CPU time
            self._process.kill()
            raise InterruptedWorkError from None
        except (EOFError, OSError):
            code = await self._process.wait()
            if code == -signal.SIGPROF:
                raise TooCostlyError(f"it takes more than {self._limits.seconds:g} s of CPU time") from None
            if code in _OUT_OF_MEMORY:
                raise _out_of_memory(self._limits) from None
            raise InterruptedWorkError from None
        self._is_usable = answer[0] != process.TOO_LARGE  # its memory may be fragmented
        return read_result(function, answer, self._limits)

    async def close(self) -> None:
        self._is_usable = False
        self._process.kill()
        self._writer.close()
        await self._process.wait()


def start_process(
    limits: ProcessLimits, *, imports: str, command: Sequence[str] = COMMAND
) -> tuple[SpawnedProcess, socket.socket]:
    """Start a sandbox, whose limits the kernel enforces; return it and our end of its socket, which is blocking.

    It says that it is ready once it has imported the module `imports` (empty: none). `command` starts Python with the
    program.

    Raises:
        OSError: the process can't be started.
    """
    with socket_pair() as (ours, theirs):
        descriptor = theirs.fileno()
        options = map(str, (descriptor, limits.seconds, limits.memory, *filter(None, (imports,))))
        return spawn((*command, *options), descriptors=(descriptor,), quiet=True), ours


def encode_call(function: Function, parts: Sequence[bytes]) -> bytes:
    return frames.encode(process.CALL, _name(function).encode(), *parts)


def cpu_time(answer: Answer) -> int:
    """Return the CPU time of a call, in ns."""
    used: int = process.CPU_NS.unpack(answer[1][0])[0]
    return used


def read_result(function: Function, answer: Answer, limits: ProcessLimits) -> list[bytes]:
    """Return the values that a function yielded, or raise as `OffloadWorker.run` does."""
    kind, (_, *result) = answer
    if kind == process.INVALID:
        raise InvalidError(result[1].decode(), reason=result[0].decode())
    if kind == process.TOO_LARGE:
        raise _out_of_memory(limits)
    if kind == process.FAILURE:
        raise InternalError(f"{_name(function)} failed with {result[0].decode()}")
    return result


def _name(function: Function) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _out_of_memory(limits: ProcessLimits) -> OutOfMemoryError:
    return OutOfMemoryError(f"it takes more than {limits.memory >> 20} MiB of memory")
