"""Runs the processes of a runner, with limits on their number, time and output; each by a launcher of its own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import orjson
import psutil

from flowhook import limits
from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import FairQueue, SharedLimit, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.processes.orphans import FILE_BYTES, Sweep, descends_from_launcher, kill_orphans

# limit of standard output and of standard error, each; a process that writes more is killed
MAX_OUTPUT_BYTES: Final = limits.MAX_RESULT_BYTES
# memory limit of each process (`RLIMIT_DATA`); merely reserved memory does not count: some languages reserve a lot
MEMORY_BYTES: Final = 512 * limits.MIB
# limit of processes and threads, beside those that the user has already; the system does not apply it to root
MAX_TASKS: Final = 64
MAX_FILES: Final = 256

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

GRACE_SECONDS: Final = 5.0  # time that a launcher has to end; then it is killed and cleaned up after
# interval between checks of a launcher that should end: one that its program has stopped is killed at once
CHECK_SECONDS: Final = 0.2

# Maximum number of sweeps after a launcher was killed; new launchers may start between them. Remaining processes are
# left to the next cleanup.
SWEEPS: Final = 10

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_CHUNK_BYTES: Final = 64 * limits.KIB

T = TypeVar("T")

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
        raise fault(Kind.COMMUNICATION, problem.message, status=503) from None


async def _run(program: ProcessSpec, launchers: Launchers) -> ProcessResult:
    async with launchers.launch() as launcher:
        launcher.lifeline.write(_encode(program))
        process, end = launcher.process, launcher.lifeline.close
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process.stdin, program.stdin))
            output = tasks.create_task(_read(process.stdout, end))
            errors = tasks.create_task(_read(process.stderr, end))
            tasks.create_task(launchers.ended(launcher))
            code = tasks.create_task(launcher.code())
    stdout, stderr, ended = output.result(), errors.result(), code.result()
    if stdout is None or stderr is None:
        which = "output" if stdout is None else "error"
        detail = f"the process wrote more than {MAX_OUTPUT_BYTES} bytes to its standard {which}"
        raise fault(Kind.RUNTIME, detail)
    if ended is None:
        raise fault(Kind.RUNTIME, "the process was killed")
    return ProcessResult(ended, stdout, stderr)


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


async def _read(stream: asyncio.StreamReader | None, end: Callable[[], None]) -> bytes | None:
    """Return the output of a process; if it is too long, call `end`, read on, and return None."""
    parts: list[bytes] = []
    left = MAX_OUTPUT_BYTES
    while stream is not None and (part := await stream.read(_CHUNK_BYTES)):
        if left >= 0 > left - len(part):
            end()
        left -= len(part)
        if left >= 0:
            parts.append(part)
    return b"".join(parts) if left >= 0 else None


async def _feed(stdin: asyncio.StreamWriter | None, content: bytes) -> None:
    if stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a process need not read its input
        stdin.write(content)
        await stdin.drain()
    stdin.close()


@dataclass(slots=True)
class Launcher:
    """A running launcher process."""

    process: asyncio.subprocess.Process  # with the streams of its program
    reader: asyncio.StreamReader  # reads its messages from the lifeline
    lifeline: asyncio.StreamWriter  # sends the program; closing it ends the launcher and all its descendants
    directory: str = ""  # working directory of its program; empty before the launcher reported it

    async def code(self) -> int | None:
        """Wait for the program and return its exit code; None: the launcher died before it could report one."""
        if line := await self.reader.readline():
            self.directory = orjson.loads(line)["directory"]
        line = await self.reader.readline()
        return orjson.loads(line)["code"] if line else None


@attrs.define(eq=False, repr=False, kw_only=True)
class Launchers:
    """Starts and tracks the launchers of a runner."""

    _grace_seconds: float = GRACE_SECONDS  # that launchers have to end
    # kills the orphans among this process's children (blocking)
    _sweep: Callable[[Callable[[int], bool]], Sweep] = kill_orphans
    _pids: set[int] = attrs.field(init=False, factory=set)
    # excludes sweeps while a launcher starts: it is not in `_pids` yet, and would look like an orphan
    _starting_or_sweeping: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    @contextlib.asynccontextmanager
    async def launch(self) -> AsyncIterator[Launcher]:
        """Start a launcher, or raise a runtime TaskFault; on exit it and all its descendants are ended."""
        launcher = await self._start()
        try:
            yield launcher
        finally:
            launcher.lifeline.close()
            await _uninterrupted(self._wait_until_ended(launcher))

    async def _start(self) -> Launcher:
        ours, theirs = socket.socketpair()
        try:
            with theirs, contextlib.ExitStack() as on_failure:
                on_failure.callback(ours.close)
                reader, lifeline = await asyncio.open_connection(sock=ours)
                on_failure.callback(lifeline.close)  # the connection owns the socket from here on
                process = await self._spawn(theirs.fileno())
                on_failure.pop_all()
        except OSError as problem:
            raise fault(Kind.RUNTIME, f"the process can't be started ({os.strerror(problem.errno or 0)})") from None
        return Launcher(process, reader, lifeline)

    async def _spawn(self, descriptor: int) -> asyncio.subprocess.Process:
        async with self._starting_or_sweeping:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER), str(descriptor)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                pass_fds=(descriptor,),
                start_new_session=True,
            )
            self._pids.add(process.pid)
            return process

    async def ended(self, launcher: Launcher) -> None:
        """Wait for the end of a launcher, and clean up if it was killed, most likely by its own program."""
        if await launcher.process.wait():
            await self._clean_up(launcher)

    async def _wait_until_ended(self, launcher: Launcher) -> None:
        process = launcher.process
        try:
            if not await self._has_ended(launcher):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                if not await self._has_ended(launcher):
                    log.error("launcher could not be killed", launcher=process.pid)
        finally:
            self._pids.discard(process.pid)

    async def _has_ended(self, launcher: Launcher) -> bool:
        """Wait for the end of a launcher; returns false if it takes too long or is stopped."""
        end = asyncio.create_task(self._ended_without_output(launcher), name="end of a launcher")
        try:
            async with asyncio.timeout(self._grace_seconds):
                while not (await asyncio.wait([end], timeout=CHECK_SECONDS))[0]:
                    if _is_stopped(launcher.process.pid):
                        return False
                await end
        except TimeoutError:
            return False
        finally:
            end.cancel()
            await asyncio.wait([end])
        return True

    async def _ended_without_output(self, launcher: Launcher) -> None:
        streams = (launcher.process.stdout, launcher.process.stderr)
        await asyncio.gather(self.ended(launcher), *(discard(stream) for stream in streams))

    async def _clean_up(self, launcher: Launcher) -> None:
        ended, is_over = 0, False
        for _ in range(SWEEPS):
            async with self._starting_or_sweeping:
                sweep = asyncio.to_thread(self._sweep, self._is_orphan)
                more, is_over = await _uninterrupted(sweep)  # a thread can't be cancelled: hold the lock until it ends
            ended += more
            if is_over:
                break
        log.warning("launcher killed; cleaned up its processes", launcher=launcher.process.pid, processes=ended)
        if not is_over:
            log.error("processes of a flow could not be killed", launcher=launcher.process.pid)
        if launcher.directory:
            await asyncio.to_thread(shutil.rmtree, launcher.directory, ignore_errors=True)

    def _is_orphan(self, child: int) -> bool:
        return child not in self._pids and descends_from_launcher(child)


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


async def _uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await a short coroutine to its end; a cancellation meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as problem:
            cancelled = problem
    if cancelled is not None:
        raise cancelled
    return task.result()


async def discard(stream: asyncio.StreamReader | None) -> None:
    """Read a stream to its end."""
    while stream is not None and await stream.read(_CHUNK_BYTES):
        pass
