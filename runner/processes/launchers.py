"""The launchers of a runner: started, followed to their end, and cleared up after where they can't do so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from flowhook import limits, logs
from runner.interpreter.errors import Kind, fault
from runner.processes.strays import end_strays, is_of_another_session

GRACE_SECONDS: Final = 5.0
"""That the end of a launcher is waited for; one that takes longer is killed, and cleared up after."""

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_CHUNK_BYTES: Final = 64 * limits.KIB

log = logs.get_logger(__name__)


@dataclass(slots=True)
class Launcher:
    """One launcher.

    Attributes:
        process: with the streams of its job.
        reader: what it says over the lifeline.
        lifeline: where its job goes; closed, it ends with all below it.
        directory: where its job works; empty before it said so.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    lifeline: asyncio.StreamWriter
    directory: str = ""

    async def code(self) -> int | None:
        """Return the exit code of its job; None: the launcher did not live to tell."""
        if line := await self.reader.readline():
            self.directory = orjson.loads(line)["directory"]
        line = await self.reader.readline()
        return orjson.loads(line)["code"] if line else None


class Launchers:
    """Those that a runner has at a time."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._starting_or_sweeping = asyncio.Lock()
        """One that is just being started is none of `_pids` yet, and looks like a stray."""

    @contextlib.asynccontextmanager
    async def launched(self) -> AsyncIterator[Launcher]:
        """Start one. In the end it is gone, with all below it.

        Raises:
            TaskFault: it can't be started (runtime).
        """
        launcher = await self._start()
        try:
            yield launcher
        finally:
            launcher.lifeline.close()
            await _to_the_end(self._gone(launcher))

    async def _start(self) -> Launcher:
        ours, theirs = socket.socketpair()
        try:
            reader, lifeline = await asyncio.open_connection(sock=ours)
            async with self._starting_or_sweeping:
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
                self._pids.add(process.pid)
        except OSError as problem:
            ours.close()
            raise fault(Kind.RUNTIME, f"no process can be started ({os.strerror(problem.errno or 0)})") from None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Launcher(process, reader, lifeline)

    async def ended(self, launcher: Launcher) -> None:
        """Wait for the end of a launcher, and clear up after one that was killed: by its own job, most likely."""
        if await launcher.process.wait():
            await self._clear_up(launcher)

    async def _gone(self, launcher: Launcher) -> None:
        """Wait until a launcher whose lifeline is closed has ended."""
        process = launcher.process
        try:
            if not await self._has_ended(launcher):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                if not await self._has_ended(launcher):
                    log.error("a process does not let itself be killed", launcher=process.pid)
        finally:
            self._pids.discard(process.pid)

    async def _has_ended(self, launcher: Launcher) -> bool:
        streams = (launcher.process.stdout, launcher.process.stderr)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await asyncio.gather(self.ended(launcher), *(_drop(stream) for stream in streams))
        except TimeoutError:
            return False
        return True

    async def _clear_up(self, launcher: Launcher) -> None:
        async with self._starting_or_sweeping:
            known = frozenset(self._pids)
            strays = await asyncio.to_thread(
                end_strays, lambda child: child not in known and is_of_another_session(child)
            )
        log.warning("a launcher was killed; cleared up after it", launcher=launcher.process.pid, processes=strays)
        if launcher.directory:
            await asyncio.to_thread(shutil.rmtree, launcher.directory, ignore_errors=True)


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


async def _drop(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(_CHUNK_BYTES):
        pass
