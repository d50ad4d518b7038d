"""Runs the processes of a runner, with limits on their number, time and output."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from flowhook import limits
from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import FairQueue, SharedLimit, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.processes.launchers import Launchers, discard
from runner.processes.orphans import FILE_BYTES

# limit of standard output and of standard error, each; a process that writes more is killed
MAX_OUTPUT_BYTES: Final = limits.MAX_RESULT_BYTES
# memory limit of each process (`RLIMIT_DATA`); merely reserved memory does not count: some languages reserve a lot
MEMORY_BYTES: Final = 512 * limits.MIB
# limit of processes and threads, beside those that the user has already; the system does not apply it to root
MAX_TASKS: Final = 64
MAX_FILES: Final = 256

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CHUNK_BYTES: Final = 64 * limits.KIB
_UNAVAILABLE: Final = 503

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A program to execute."""

    argv: tuple[str, ...] = field(repr=False)  # arguments; the first one is the absolute path of the program
    environment: Mapping[str, str] = field(repr=False)  # all of it; `PATH` is added if it has none
    stdin: bytes = field(repr=False)  # content of standard input
    files: Mapping[str, str] = field(repr=False)  # text files in its working directory, by name
    seconds: float  # limit of its duration, and of the CPU time of each of its processes


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Exit code (128 and more for a signal) and output of a process."""

    code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


class FlowProcesses:
    """The processes of one runner; `components.ClosableResource`."""

    def __init__(self, _settings: RunnerSettings, /, *, limits: RunnerLimits | None = None) -> None:
        limits = limits or RunnerLimits()
        self._queue = FairQueue(limits.processes)
        self._in_background = SharedLimit(limits.background)
        self._background: set[asyncio.Task[None]] = set()
        self._launchers = Launchers()

    async def run(self, program: ProcessSpec) -> ProcessResult:
        """Execute a program and return its result; cancelling this kills the process and its descendants.

        Raises:
            TaskFault: the process can't be started, wrote too much, or was killed (runtime); too many wait
                (communication).
        """
        async with self._seat():
            return await _run(program, self._launchers)

    @contextlib.asynccontextmanager
    async def converse(self, program: ProcessSpec) -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamReader]]:
        """Execute a program and provide its standard input and output; on exit it is killed with its descendants.

        What it writes to standard error is discarded. The caller limits what it reads.

        Raises:
            TaskFault: the process can't be started (runtime), or too many wait (communication).
        """
        async with self._seat(), self._launchers.launch() as launcher:
            launcher.lifeline.write(_encode(program))
            process = launcher.process
            if process.stdin is None or process.stdout is None:
                raise AssertionError("launchers have pipes")
            errors = asyncio.create_task(discard(process.stderr), name="standard error of a process")
            try:
                yield process.stdin, process.stdout
            finally:
                await end_tasks([errors])

    def start(self, program: ProcessSpec) -> None:
        """Execute a program in the background, until its time is up or the runner ends.

        Raises:
            TaskFault: there are too many (communication).
        """
        with _refusal_as_fault():
            seat = self._in_background.acquire(current_principal.get())
        task = asyncio.create_task(self._run_in_background(program), name="process in the background")
        task.add_done_callback(lambda _: seat.release())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        tasks = list(self._background)
        await end_tasks(tasks)

    @contextlib.asynccontextmanager
    async def _seat(self) -> AsyncIterator[None]:
        """Wait for a turn of the flow, and hold it; the deadline of the call ends the wait."""
        async with contextlib.AsyncExitStack() as stack:
            with _refusal_as_fault():
                await stack.enter_async_context(self._queue.seat(current_principal.get()))
            yield

    async def _run_in_background(self, program: ProcessSpec) -> None:
        try:
            async with asyncio.timeout(program.seconds):
                await _run(program, self._launchers)
        except (TaskFault, TimeoutError) as problem:
            log.warning("background process failed", cause=type(problem).__name__)


@contextlib.contextmanager
def _refusal_as_fault() -> Iterator[None]:
    try:
        yield
    except FlowhookError as problem:
        raise fault(Kind.COMMUNICATION, problem.message, status=_UNAVAILABLE) from None


async def _run(program: ProcessSpec, launchers: Launchers) -> ProcessResult:
    async with launchers.launch() as launcher:
        launcher.lifeline.write(_encode(program))
        process, end = launcher.process, launcher.lifeline.close
        outputs = [_Output("output", end), _Output("error", end)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process.stdin, program.stdin))
            for output, stream in zip(outputs, (process.stdout, process.stderr), strict=True):
                tasks.create_task(output.read(stream))
            tasks.create_task(launchers.ended(launcher))
            code = tasks.create_task(launcher.code())
    for output in outputs:
        if output.is_too_long:
            detail = f"the process wrote more than {MAX_OUTPUT_BYTES} bytes to its standard {output.name}"
            raise fault(Kind.RUNTIME, detail)
    ended = code.result()
    if ended is None:
        raise fault(Kind.RUNTIME, "the process was killed")
    return ProcessResult(ended, *(output.content for output in outputs))


def _encode(program: ProcessSpec) -> bytes:
    limits_ = {
        "CORE": 0,
        "CPU": math.ceil(program.seconds),
        "DATA": MEMORY_BYTES,
        "FSIZE": FILE_BYTES,
        "NOFILE": MAX_FILES,
        "NPROC": MAX_TASKS,
    }
    environment = {"PATH": PATH, **program.environment}
    message = {"argv": program.argv, "environment": environment, "files": program.files, "limits": limits_}
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class _Output:
    """Collects the output of a process up to a limit; `end` is called when it writes more."""

    name: str
    end: Callable[[], None]
    content: bytes = b""
    is_too_long: bool = False

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        parts: list[bytes] = []
        left = MAX_OUTPUT_BYTES
        while stream is not None and (part := await stream.read(_CHUNK_BYTES)):
            left -= len(part)
            if left >= 0:
                parts.append(part)
            elif not self.is_too_long:
                self.is_too_long = True
                self.end()
        self.content = b"".join(parts)


async def _feed(stdin: asyncio.StreamWriter | None, content: bytes) -> None:
    if stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a process need not read its input
        stdin.write(content)
        await stdin.drain()
    stdin.close()
