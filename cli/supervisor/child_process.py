"""A running child process, and the socket that connects it to the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson

from cli.supervisor.cluster_spec import Command
from flowhook.process.supervisor_socket import PARENT_FD
from flowhook.sandbox.forking import ForkedProcess, ForkingClient
from flowhook.sandbox.spawning import SpawnedProcess, socket_pair, spawn

# signals by which others end a process; a defect of the process itself does not cause them
FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
TRIES: Final = 10
PAUSE_SECONDS: Final = 0.1  # in which the kernel accepts one change of a session's priority from others than root


async def lower_priority(pid: int, nice: int) -> None:
    """Lower the priority of a process that was just started in a session of its own, and of its future children.

    Where the kernel first shares the cores among sessions (autogroups; most desktops, and servers without control
    groups around a process), a nice value has effect only within the session. So the session gets one as well. Errors
    of the system are ignored: the child may have ended meanwhile, and only speed depends on the priority. `nice`:
    increment of its nice value; 0 changes nothing.

    Source: sched(7), "The autogroup feature".
    """
    if nice <= 0:
        return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + nice)
        for _ in range(TRIES):
            try:
                Path(f"/proc/{pid}/autogroup").write_text(str(nice))  # noqa: ASYNC240 - does not block on a disk
            except BlockingIOError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return


@dataclass(eq=False, repr=False, slots=True)
class ChildProcess:
    """A child process. It holds one end of a socket pair, and ends at the latest when the supervisor's end closes."""

    process: SpawnedProcess | ForkedProcess
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    environment: Mapping[str, str]  # what it lacks of its environment, and gets with its settings

    @classmethod
    async def start(cls, command: Command, forks: ForkingClient | None = None) -> Self:
        """Start a process in a session of its own: fork it where `forks` can, else execute its command.

        Raises:
            OSError: it can't be started.
        """
        missing: Mapping[str, str] = {}
        with socket_pair() as (ours, theirs):  # on an error the closed end ends the process, if it was started
            process: SpawnedProcess | ForkedProcess
            if forks is not None and command.fork:
                process, missing = await forks.fork(command.fork, theirs.fileno()), command.environment
            else:
                process = spawn(
                    command.arguments,
                    descriptors=(theirs.fileno(),),
                    environment={**command.environment, PARENT_FD: str(theirs.fileno())},
                    new_session=True,  # Ctrl-C must reach only the supervisor, which stops processes in order
                )
            await lower_priority(process.pid, command.nice)
            reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, missing)

    async def send_settings(self, settings: Mapping[str, str]) -> None:
        """Send the process the settings that it waits for; no error if it has ended meanwhile."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(orjson.dumps({**self.environment, **settings}) + b"\n")
            await self.writer.drain()

    async def run(self, on_message: Callable[[Mapping[str, Any]], None]) -> int:
        """Wait until the process has ended, given its messages, and return its exit code, negative for a signal."""
        try:
            with contextlib.suppress(ConnectionError):
                while line := await self.reader.readline():
                    on_message(orjson.loads(line))
            return await self.process.wait()
        finally:
            self.writer.close()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process, and everything that it started in its session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.send_signal(signal.SIGKILL)


def ended_externally(code: int) -> bool:
    """Whether an exit code means that the process was ended from outside, drained or not."""
    return code == 0 or -code in FROM_OUTSIDE or code - 128 in FROM_OUTSIDE


def killed_externally(code: int) -> bool:
    """Whether an exit code means that the process was ended from outside before it could hand back its work."""
    return code != 0 and ended_externally(code)


def describe_exit(code: int) -> str:
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"
