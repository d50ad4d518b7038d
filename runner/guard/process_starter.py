"""Starts child processes: forks them from a server process with all modules imported, or starts new interpreters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final, Protocol

import orjson
from typing_extensions import override

from flowhook.sandbox.spawning import python_command, socket_pair, spawn

# Environment variables that a child needs to start: the locations of CA certificates. It clears them afterwards.
_PASSED_ON: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# read by gRPC on import: forks of a child exec at once, so gRPC needs no fork handlers
_SETTINGS: Final = {"GRPC_ENABLE_FORK_SUPPORT": "false"}

MAX_PACKET: Final = 256


class StartedProcess(Protocol):
    """A started process; the subset of `asyncio.subprocess.Process` that `WorkerProcess` uses."""

    @property
    def pid(self) -> int:
        """Process ID; not reused while `returncode` is None."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        ...

    def kill(self) -> None:
        """Send SIGKILL.

        Raises:
            ProcessLookupError: the process has ended.
        """
        ...

    async def wait(self) -> int:
        """Wait for the process to end and return `returncode`."""
        ...


class ProcessStarter(Protocol):
    """Starts processes for children."""

    async def start(self, control_fd: int, record_fd: int) -> StartedProcess:
        """Start a process with the descriptors of its control socket and record, which the caller still owns.

        Raises:
            OSError: the process can't be started.
        """
        ...

    async def close(self) -> None:
        """Release all resources; processes that still run may be killed."""
        ...


def supports_fork_server() -> bool:
    """Whether this system supports the fork server (Linux with `pidfd_open`)."""
    if not sys.platform.startswith("linux"):
        return False
    try:  # kernels before 5.3 and some sandboxes lack the call
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def new_starter() -> ProcessStarter:
    """Return the fastest starter that this system supports."""
    return ForkServerStarter() if supports_fork_server() else InterpreterStarter()


class InterpreterStarter(ProcessStarter):
    """Starts a new interpreter for each process; works on every system, takes about a second of CPU time."""

    @override
    async def start(self, control_fd: int, record_fd: int) -> StartedProcess:
        descriptors = (control_fd, record_fd)
        return spawn(python_command("runner.worker", *descriptors), descriptors=descriptors, environment=_environment())

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _environment() -> dict[str, str]:
    """Return a nearly empty environment, since expressions can read it through jq."""
    return _SETTINGS | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


class ForkServerStarter(ProcessStarter):
    """Forks processes from `worker.fork_server`, which is started at once and restarted if it died.

    It may be created before there is an event loop, because the server's imports take about a second.
    """

    def __init__(self) -> None:
        self._server = _Server()
        self._starting = asyncio.Lock()

    @override
    async def start(self, control_fd: int, record_fd: int) -> StartedProcess:
        async with self._starting:
            if self._server.is_over:
                await self._server.close()
                self._server = _Server()
            return await self._server.fork(control_fd, record_fd)

    async def close(self) -> None:
        """Stop the server, and its children with it."""
        await self._server.close()


class _Server:
    """A running fork server process."""

    def __init__(self) -> None:
        self._children: dict[int, _Forked] = {}
        self._answer: asyncio.Future[_Forked] | None = None
        self._requests = 0
        self._is_read = False
        self.is_over = False
        with socket_pair(socket.SOCK_SEQPACKET) as (self._link, theirs):
            self._link.setblocking(False)
            descriptor = theirs.fileno()
            self._process = spawn(
                python_command("runner.worker.fork_server", descriptor),
                descriptors=(descriptor,),
                environment=_environment(),
            )

    async def fork(self, *descriptors: int) -> _Forked:
        if not self._is_read:
            self._is_read = True
            asyncio.get_running_loop().add_reader(self._link, self._read)
        self._answer = asyncio.get_running_loop().create_future()
        self._requests += 1
        try:
            self._send(b"fork %d" % self._requests, descriptors)
            return await self._answer
        finally:
            self._answer = None

    def _send(self, packet: bytes, descriptors: Sequence[int] = ()) -> None:
        socket.send_fds(self._link, [packet], descriptors)

    def _read(self) -> None:
        try:
            packet = self._link.recv(MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._end()
            return
        match orjson.loads(packet):
            case {"started": pid, "request": number}:
                child = self._children[pid] = _Forked(pid)
                self._resolve(number, child)
            case {"refused": code, "request": number}:
                self._resolve(number, OSError(code, os.strerror(code)))
            case {"ended": pid, "code": code}:
                self._children.pop(pid).end(code)
                with contextlib.suppress(OSError):
                    self._send(b"reap %d" % pid)

    def _resolve(self, number: int, answer: _Forked | OSError) -> None:
        if number != self._requests or self._answer is None or self._answer.done():
            return  # the request was cancelled; the child's control socket is closed, so it exits by itself
        if isinstance(answer, OSError):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)

    def _end(self) -> None:
        """Record that the server is gone: the kernel kills its children with it."""
        self.is_over = True
        if self._is_read:
            asyncio.get_running_loop().remove_reader(self._link)
        self._link.close()
        children, self._children = self._children, {}
        for child in children.values():
            child.end(-signal.SIGKILL)
        self._resolve(self._requests, ConnectionResetError("the fork server died"))

    async def close(self) -> None:
        if not self.is_over:
            self._end()
        await self._process.wait()


class _Forked:
    """A process forked by the fork server."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def end(self, code: int) -> None:
        """Record the exit code, negative for a signal."""
        self.returncode = code
        self._ended.set()

    def kill(self) -> None:
        """Send SIGKILL; the PID is not reused before `end` is called."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the process to end."""
        await self._ended.wait()
        return self.returncode or 0
