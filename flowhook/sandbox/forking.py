"""Has processes forked by a fork server, which is started anew when it has died; `fork_server` is its program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import orjson

from flowhook.sandbox.spawning import SpawnedProcess, python_command, socket_pair, spawn

MAX_PACKET: Final = 256


def supports_fork_server() -> bool:
    """Whether this system supports fork servers (Linux with `pidfd_open`)."""
    if not sys.platform.startswith("linux"):
        return False
    try:  # kernels before 5.3 and some sandboxes lack the call
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def spawn_fork_server(
    descriptor: int, module: str, *arguments: str, environment: Mapping[str, str], new_session: bool = False
) -> SpawnedProcess:
    """Start a fork server as a new interpreter: `python -I -m MODULE SOCKET_FD ARGUMENTS…`."""
    return spawn(
        python_command(module, descriptor, *arguments),
        descriptors=(descriptor,),
        environment=environment,
        new_session=new_session,
    )


class ServerProcess(Protocol):
    """The process of a fork server, which ends when its socket is closed."""

    async def wait(self) -> int:
        """Wait for its end."""


@attrs.define(eq=False, repr=False)
class ForkedProcess:
    """A process forked by a fork server."""

    pid: int
    returncode: int | None = attrs.field(init=False, default=None)  # negative for a signal
    _ended: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def end(self, code: int) -> None:
        """Record the exit code, negative for a signal."""
        self.returncode = code
        self._ended.set()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended; the PID is not reused before `end` is called."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end, and return its exit code, negative for a signal."""
        await self._ended.wait()
        return self.returncode or 0


class ForkingClient:
    """A fork server of this process, which starts at once.

    It may be created before there is an event loop, because the server's imports take up to a second.
    """

    def __init__(self, launch: Callable[[int], ServerProcess]) -> None:
        """`launch` starts a server, with the descriptor of its socket, which it inherits or owns."""
        self._launch = launch
        self._server = _Connection(launch)
        self._forking = asyncio.Lock()

    async def fork(self, argument: str, *descriptors: int) -> ForkedProcess:
        """Have a process forked, with descriptors that the caller still owns.

        Raises:
            OSError: there is no memory for it, or too many processes, or the server died.
        """
        async with self._forking:
            if self._server.is_over:
                await self._server.close()
                self._server = _Connection(self._launch)
            return await self._server.fork(argument, descriptors)

    async def close(self) -> None:
        """End the server, and the processes that it forked."""
        await self._server.close()


class _Connection:
    def __init__(self, launch: Callable[[int], ServerProcess]) -> None:
        self._children: dict[int, ForkedProcess] = {}
        self._answer: asyncio.Future[ForkedProcess] | None = None
        self._requests = 0
        self._is_read = False
        self.is_over = False
        with socket_pair(socket.SOCK_SEQPACKET) as (self._link, theirs):
            self._link.setblocking(False)
            self._process = launch(theirs.fileno())

    async def fork(self, argument: str, descriptors: Sequence[int]) -> ForkedProcess:
        if not self._is_read:
            self._is_read = True
            asyncio.get_running_loop().add_reader(self._link, self._read)
        self._answer = asyncio.get_running_loop().create_future()
        self._requests += 1
        try:
            self._send(f"fork {self._requests} {argument}", descriptors)
            return await self._answer
        finally:
            self._answer = None

    def _send(self, packet: str, descriptors: Sequence[int] = ()) -> None:
        socket.send_fds(self._link, [packet.encode()], descriptors)

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
                    self._send(f"reap {pid}")

    def _resolve(self, number: int, answer: ForkedProcess | OSError) -> None:
        if number != self._requests or self._answer is None or self._answer.done():
            return  # the request was cancelled; the child's socket is closed, so it exits by itself
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
