"""Supervises one process: starts it, sends it its settings over a socket, and restarts it when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson

from cli.supervisor.cluster_spec import Command, ForeignProgram
from cli.supervisor.progress import print_progress, report_waiting
from cli.supervisor.rundir import RunDir
from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import FlowhookError, InternalError
from flowhook.process.supervisor_socket import PARENT_FD
from flowhook.retrying import POLL, PROCESS
from flowhook.sandbox.forking import ForkedProcess, ForkingClient
from flowhook.sandbox.spawning import SpawnedProcess, socket_pair, spawn

# a process that lived longer than this before it died is restarted after the first delay. Used for nothing else.
HEALTHY_SECONDS: Final = 30.0
# exit code of a process that lacks something it needs: a restart may succeed once other processes serve
REFUSED: Final = 1
WRONG_USAGE: Final = 2  # exit code of a process with invalid settings: these do not change from start to start
# failures of a process after which the start is abandoned, while the router has never served
MAX_FIRST_STARTS: Final = 5
Addresses = dict[str, str]  # addresses at which a process listens: `host:port` by kind (`http`, `grpc`)


class StartRefusedError(FlowhookError):
    """A process of the cluster can't start; it has printed the reason on stderr."""

    default_reason = "START_REFUSED"


@dataclass(eq=False, repr=False, slots=True)
class ProcessSupervisor:
    """The supervisor of one named process of the cluster, `edge-1` for example, across restarts."""

    name: str  # role and number
    role: str
    command: Command
    # returns the settings that the process waits for. It is called after each start, because more may be known by a
    # restart; its argument says whether the previous process was ended from outside.
    settings: Callable[[bool], Mapping[str, str]]
    served: asyncio.Event  # set once the router has served; from then on the end of a process does not end the cluster
    run_dir: RunDir  # for pid files
    program: ForeignProgram | None = None  # what is started, if it is not Flowhook's
    forks: ForkingClient | None = None  # forks it, where the system can

    # set once the processes that it depends on serve; until then it imports its code, and waits
    may_proceed: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    ready: asyncio.Event = field(init=False, default_factory=asyncio.Event)  # set while the process serves
    addresses: Addresses = field(init=False, default_factory=dict)  # where it listens; retained across restarts
    lack: str = field(init=False, default="")  # what it waits for while it is not ready, as it says; empty: unknown
    _stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _ended: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _child: ChildProcess | None = field(init=False, default=None)
    _was_ready: bool = field(init=False, default=False)
    _explained: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._ended.set()

    async def run(self) -> None:
        """Run the process, and restart it when it ends, until `stop`.

        Raises:
            StartRefusedError: it ended before it was ever ready, for a reason that a restart would not change.
        """
        loop = asyncio.get_running_loop()
        pauses, defects = PROCESS.pauses(), 0
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                started = loop.time()
                try:
                    code = await self._run_once()
                    how = describe_exit(code)
                except OSError as error:  # out of memory or processes, for example
                    code, how = None, f"can't be started: {os.strerror(error.errno or 0)}"
                if self._stopping.is_set():
                    return
                defects += code is None or not ended_externally(code)
                self._check_first_start(code, how, defects)
                if loop.time() - started > HEALTHY_SECONDS:
                    pauses = PROCESS.pauses()
                delay = next(pauses)
                print_progress(f"{self.name} {how}; starting it again in {delay:g} s")
                await wait_at_most(delay, self._stopping.wait())
        finally:
            self._ended.set()

    async def stop(self, grace: float) -> None:
        """Have the process drain, and wait for its end; kill it after `grace` seconds."""
        self._stopping.set()
        if self._child is not None:
            self._child.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            print_progress(f"{self.name} did not stop in {grace:g} s; killing it")
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """Kill the process and don't restart it."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    async def _run_once(self) -> int:
        self._child = child = await ChildProcess.start(self.command, self.forks)
        try:
            self._write_pid_file(child.process.pid)
            if self._stopping.is_set():
                child.terminate()
            async with asyncio.TaskGroup() as helpers:
                helping = [
                    helpers.create_task(each) for each in (self._send_settings(child), self._remind(), self._probe())
                ]
                code = await child.run(self._on_message)
                for task in helping:
                    task.cancel()
            # the end of a process that was never ready does not change whether the loss before it is explained
            self._explained = killed_externally(code) and (self.ready.is_set() or self._explained)
            return code
        finally:
            # kill what the process left in its session and, if this is cancelled, the now unsupervised process itself
            child.kill()
            await child.process.wait()
            self._child = None
            self.ready.clear()
            self.lack = ""
            with contextlib.suppress(OSError):
                self.run_dir.remove_pid(self.name)

    async def _send_settings(self, child: ChildProcess) -> None:
        await self.may_proceed.wait()
        await child.send_settings(self.settings(self._explained))

    async def _remind(self) -> None:
        """Report a slow restart; the cluster reports a slow first start."""
        if self._was_ready:
            done = self.ready, self._stopping
            await report_waiting(lambda: "" if any(each.is_set() for each in done) else describe_waiting([self]))

    async def _probe(self) -> None:
        """Ask a program that reports nothing whether it serves, until it does."""
        if self.program is None:
            return
        for pause in POLL.pauses():
            lack = await self.program.lack()
            self._on_message({"ready": not lack, "lack": lack, "addresses": {}})
            if not lack:
                return
            await asyncio.sleep(pause)

    def _write_pid_file(self, pid: int) -> None:
        """Write the pid file if possible: a full disk must not end a running process."""
        try:
            self.run_dir.write_pid(self.name, pid)
        except OSError as error:
            print_progress(f"{self.name} has no pid file: {os.strerror(error.errno or 0)}")

    def _on_message(self, message: Mapping[str, Any]) -> None:
        self.lack = " ".join(message.get("lack", "").split())
        if not message.get("ready"):
            return
        self.addresses = message["addresses"]
        if self._was_ready:
            print_progress(f"{self.name} is ready again")
        self._was_ready = True
        self.ready.set()

    def _check_first_start(self, code: int | None, how: str, defects: int) -> None:
        if self._was_ready:
            return
        if self.program is None and (code == WRONG_USAGE or (code == REFUSED and not self.served.is_set())):
            raise StartRefusedError(f"{self.name} can't start, see above")
        if defects >= MAX_FIRST_STARTS and not self.served.is_set():
            where = "" if self.program is None else f"; see {self.program.log_file}"
            raise InternalError(f"{self.name} {how} {defects} times before it was ready{where}")


def describe_waiting(waited_for: Iterable[ProcessSupervisor]) -> str:
    """Return the names of processes that are waited for, with what they say that they wait for themselves."""
    parts = []
    for lack, group in itertools.groupby(waited_for, key=lambda each: each.lack):
        names = [each.name for each in group]
        says = "says" if len(names) == 1 else "say"
        parts.append(", ".join(names) + (f", which {says}: {lack}" if lack else ""))
    return "; ".join(parts)


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
