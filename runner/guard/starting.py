"""Starts the processes that children run in: forked from one that has everything imported, or each by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, Protocol

import orjson

_PASSED_ON: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What of the environment a child needs to start: where the machine keeps its certificates. It clears it then."""

_SETTINGS: Final = {"GRPC_ENABLE_FORK_SUPPORT": "false"}
"""What gRPC reads when it is imported: what a child forks it executes at once, so that gRPC need not prepare for it."""

MAX_PACKET: Final = 256


class Process(Protocol):
    """A process that was started; what children need of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int:
        """Its ID, its own for as long as `returncode` is None."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        ...

    def kill(self) -> None:
        """Send it SIGKILL.

        Raises:
            ProcessLookupError: it has ended.
        """
        ...

    async def wait(self) -> int:
        """Wait for its end and return `returncode`."""
        ...


class Starter(Protocol):
    """Starts processes for children."""

    async def start(self, control_fd: int, record_fd: int) -> Process:
        """Start a process with its ends of a control socket and of a record; they stay the caller's.

        Raises:
            OSError: it can't be started.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; processes that still run may end."""
        ...


def has_fork_server() -> bool:
    """Whether this system has what the fork server is made of (Linux)."""
    if not sys.platform.startswith("linux"):
        return False
    try:  # kernels before 5.3 and some sandboxes do not have the call
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def new_starter() -> Starter:
    """Return the quickest starter that this system has."""
    return ForkServer() if has_fork_server() else Interpreters()


class Interpreters:
    """Starts a new interpreter for each process: on every system, in about a second of CPU time."""

    async def start(self, control_fd: int, record_fd: int) -> Process:
        """See `Starter`."""
        descriptors = (control_fd, record_fd)
        return await asyncio.create_subprocess_exec(
            *_command("runner.worker", *descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
            env=_environment(),
        )

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


def _command(module: str, *descriptors: int) -> tuple[str, ...]:
    # isolated: neither the directory it is started in nor PYTHON* variables lead it to other code
    return (sys.executable, "-I", "-m", module, *map(str, descriptors))


def _environment() -> dict[str, str]:
    """Return an environment that is as good as empty, since jq would show it to expressions."""
    return _SETTINGS | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


class ForkServer:
    """Has processes forked by `worker.fork_server`, which is started at once, and anew if it died.

    It may be made before there is an event loop: what it imports takes about a second.
    """

    def __init__(self) -> None:
        self._server = _Server()
        self._starting = asyncio.Lock()

    async def start(self, control_fd: int, record_fd: int) -> Process:
        """See `Starter`."""
        async with self._starting:
            if self._server.is_over:
                await self._server.close()
                self._server = _Server()
            return await self._server.fork(control_fd, record_fd)

    async def close(self) -> None:
        """End the server, and its children with it."""
        await self._server.close()


class _Server:
    """One fork server that runs."""

    def __init__(self) -> None:
        self._children: dict[int, _Forked] = {}
        self._answer: asyncio.Future[_Forked] | None = None
        self._requests = 0
        self._is_read = False
        self.is_over = False
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.setblocking(False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own code
                _command("runner.worker.fork_server", theirs.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()

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
            return  # whoever asked was cancelled; nobody speaks to the child, which ends by itself
        if isinstance(answer, OSError):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)

    def _end(self) -> None:
        """Take in that the server is gone: the kernel kills its children with it."""
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
        await asyncio.to_thread(self._process.wait)


class _Forked:
    """A process that a fork server forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def end(self, code: int) -> None:
        """Note how it ended."""
        self.returncode = code
        self._ended.set()

    def kill(self) -> None:
        """Send it SIGKILL; its number is its own until its end is noted here."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end."""
        await self._ended.wait()
        return self.returncode or 0
