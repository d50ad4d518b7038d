"""Starts child processes: forks them from a server process with all modules imported, or starts new interpreters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import attrs
import orjson
from typing_extensions import override

from flowhook.sandbox.spawning import SpawnedProcess, python_command, socket_pair, spawn

# Environment variables that a child needs to start, and clears afterwards: the locations of CA certificates, and how
# gRPC waits for sockets.
_PASSED_ON: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GRPC_EXPERIMENTS")
# read by gRPC on import: forks of a child exec at once, so gRPC needs no fork handlers
_SETTINGS: Final = {"GRPC_ENABLE_FORK_SUPPORT": "false"}

MAX_PACKET: Final = 256


class ProcessStarter(ABC):
    """Starts processes for children."""

    @abstractmethod
    async def start(self, control_fd: int, record_fd: int) -> SpawnedProcess | ForkedProcess:
        """Start a process with the descriptors of its control socket and record, which the caller still owns.

        Raises:
            OSError: the process can't be started.
        """

    async def close(self) -> None:  # noqa: B027 - not all have resources
        """Release all resources; processes that still run may be killed."""


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
    return ForkServerStarter() if supports_fork_server() else InterpreterStarter()


class InterpreterStarter(ProcessStarter):
    """Starts a new interpreter for each process; works on every system, takes about a second of CPU time."""

    @override
    async def start(self, control_fd: int, record_fd: int) -> SpawnedProcess:
        descriptors = (control_fd, record_fd)
        return spawn(python_command("runner.worker", *descriptors), descriptors=descriptors, environment=_environment())


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
    async def start(self, control_fd: int, record_fd: int) -> ForkedProcess:
        async with self._starting:
            if self._server.is_over:
                await self._server.close()
                self._server = _Server()
            return await self._server.fork(control_fd, record_fd)

    @override
    async def close(self) -> None:
        await self._server.close()


class _Server:
    def __init__(self) -> None:
        self._children: dict[int, ForkedProcess] = {}
        self._answer: asyncio.Future[ForkedProcess] | None = None
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

    async def fork(self, *descriptors: int) -> ForkedProcess:
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
                child = self._children[pid] = ForkedProcess(pid)
                self._resolve(number, child)
            case {"refused": code, "request": number}:
                self._resolve(number, OSError(code, os.strerror(code)))
            case {"ended": pid, "code": code}:
                self._children.pop(pid).end(code)
                with contextlib.suppress(OSError):
                    self._send(b"reap %d" % pid)

    def _resolve(self, number: int, answer: ForkedProcess | OSError) -> None:
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


@attrs.define(eq=False, repr=False)
class ForkedProcess:
    """A process forked by the fork server."""

    pid: int
    returncode: int | None = attrs.field(init=False, default=None)  # negative for a signal
    _ended: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def end(self, code: int) -> None:
        """Record the exit code, negative for a signal."""
        self.returncode = code
        self._ended.set()

    def kill(self) -> None:
        """Send SIGKILL; the PID is not reused before `end` is called."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        await self._ended.wait()
        return self.returncode or 0
