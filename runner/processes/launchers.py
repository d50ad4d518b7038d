"""Starts launcher processes, waits for their end, and cleans up after launchers that were killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import orjson
import psutil

from flowhook import limits
from flowhook.process import logs
from runner.interpreter.errors import Kind, fault
from runner.processes.orphans import Sweep, descends_from_launcher, kill_orphans

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
