"""The processes of a runner: so many at a time, each for a while, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from flowhook import limits, logs
from flowhook.config import RunnerSettings
from runner.interpreter.errors import Kind, TaskFault, fault

MAX_PROCESSES: Final = 16
"""That flows wait for at a time; further ones wait their turn, for as long as their calls may."""
MAX_IN_BACKGROUND: Final = 64
"""That nobody waits for; further ones are refused."""

MAX_OUTPUT_BYTES: Final = limits.MAX_RESULT_BYTES
"""Of standard output and of standard error; a process that writes more is killed."""

MEMORY_BYTES: Final = 512 * limits.MIB
"""Each process may have; what is merely reserved does not count, for some languages reserve a lot."""
FILE_BYTES: Final = 64 * limits.MIB
MAX_TASKS: Final = 64
"""Processes and threads beside those that the user has; the system does not hold root to it."""
MAX_FILES: Final = 256

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

GRACE_SECONDS: Final = 5.0
"""That the end of a launcher is waited for; one that takes longer goes on to clear up by itself."""

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_CHUNK_BYTES: Final = 64 * limits.KIB

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What to execute.

    Attributes:
        argv: the first one is the absolute path of what is executed.
        environment: all of it; `PATH` is added where it has none.
        stdin: what can be read.
        files: that are in the directory where it starts, by name.
        seconds: that it may take, and that each of its processes may have of a processor.
    """

    argv: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    stdin: bytes = field(repr=False)
    files: Mapping[str, str] = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: with its exit code, 128 and more for a signal, and what it wrote."""

    code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


class Pool:
    """The processes of one runner; `components.Kept`."""

    def __init__(self, _settings: RunnerSettings, /) -> None:
        self._places = asyncio.Semaphore(MAX_PROCESSES)
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, job: Job) -> Ended:
        """Execute a job; called off, it is killed with all that it started.

        Raises:
            TaskFault: it can't be started, or wrote too much (runtime).
        """
        async with self._places:
            return await _run(job)

    def start(self, job: Job) -> None:
        """Execute a job that nobody waits for, until its time is up or the runner ends.

        Raises:
            TaskFault: there are too many (runtime).
        """
        if len(self._background) >= MAX_IN_BACKGROUND:
            raise fault(Kind.RUNTIME, f"there are {MAX_IN_BACKGROUND} processes in the background already")
        task = asyncio.create_task(self._look_after(job), name="process in the background")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Kill what runs in the background."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self, job: Job) -> None:
        try:
            async with asyncio.timeout(job.seconds):
                await _run(job)
        except (TaskFault, TimeoutError) as problem:
            log.warning("process in the background ended badly", cause=type(problem).__name__)


async def _run(job: Job) -> Ended:
    async with _launched() as (process, reader, lifeline):
        lifeline.write(_encode(job))
        outputs = [_Output("output", lifeline.close), _Output("error", lifeline.close)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process.stdin, job.stdin))
            for output, stream in zip(outputs, (process.stdout, process.stderr), strict=True):
                tasks.create_task(output.read(stream))
            ended = tasks.create_task(reader.readline())
    for output in outputs:
        if output.is_too_long:
            raise fault(
                Kind.RUNTIME, f"the process wrote more than {MAX_OUTPUT_BYTES} bytes to its standard {output.name}"
            )
    if not ended.result():
        raise fault(Kind.RUNTIME, "the process was killed")
    return Ended(orjson.loads(ended.result())["code"], *(output.content for output in outputs))


@contextlib.asynccontextmanager
async def _launched() -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Start a launcher; yields it with its lifeline. In the end it is gone, with all below it."""
    ours, theirs = socket.socketpair()
    try:
        reader, lifeline = await asyncio.open_connection(sock=ours)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_LAUNCHER),
            str(theirs.fileno()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except OSError as problem:
        ours.close()
        raise fault(Kind.RUNTIME, f"no process can be started ({os.strerror(problem.errno or 0)})") from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        yield process, reader, lifeline
    finally:
        lifeline.close()
        await _to_the_end(_gone(process))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await something short; being cancelled meanwhile takes effect after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as problem:
            cancelled = problem
    if cancelled is not None:
        raise cancelled
    task.result()


async def _gone(process: asyncio.subprocess.Process) -> None:
    """Wait until a launcher whose lifeline is closed has ended."""
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await asyncio.gather(process.wait(), *(_drop(stream) for stream in (process.stdout, process.stderr)))
    except TimeoutError:
        log.error("a process does not let itself be killed", launcher=process.pid)  # noqa: TRY400 - no trace of ours


def _encode(job: Job) -> bytes:
    seconds = math.ceil(job.seconds)
    return orjson.dumps(
        {
            "argv": job.argv,
            "environment": {"PATH": PATH, **job.environment},
            "files": job.files,
            "limits": {
                "CORE": 0,
                "CPU": seconds,
                "DATA": MEMORY_BYTES,
                "FSIZE": FILE_BYTES,
                "NOFILE": MAX_FILES,
                "NPROC": MAX_TASKS,
            },
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


@dataclass(slots=True)
class _Output:
    """What a process writes, as far as it may; `end` is called when it writes more."""

    name: str
    end: Callable[[], None]
    content: bytes = b""
    is_too_long: bool = False

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        """Read to the end."""
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
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        stdin.write(content)
        await stdin.drain()
    stdin.close()


async def _drop(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(_CHUNK_BYTES):
        pass
