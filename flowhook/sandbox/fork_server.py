"""Forks processes from one that has imported their code: the program's side; `forking` is the other one.

A forked process starts within milliseconds of CPU time, where a new interpreter takes up to a second, and all of them
share the memory of the imported modules. A fork server has one thread, opens no connection and works on nothing, so
forking it is safe at any time (gRPC is imported, but not initialised). Linux only.

Protocol over the socket, one message per packet::

    fork N ARGUMENT, with descriptors of the new process  ─▶
                                                 ◀─ {"started": pid, "request": N}, or {"refused": errno, "request": N}
                                                 ◀─ {"ended": pid, "code": exit code, or -signal}
    reap pid                                     ─▶ from here on the kernel may reuse the process ID

The server ends, and its children with it, when the other end of the socket is closed.

Source: docs/adr/0009-fork-server.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs
import orjson

from flowhook.process.kernel import die_with_parent

MAX_PACKET: Final = 256
MAX_DESCRIPTORS: Final = 2  # that one process may be given
FIRST_DESCRIPTOR: Final = 3  # the first that is neither standard input nor output


def fork(run: Callable[[], int], *, new_session: bool = False) -> int:
    """Fork this process, which must have one thread, and return the ID of the new one.

    That calls `run`, ends with the exit code that it returns, and is killed when this process ends. With `new_session`
    it leads a session of its own by the time this returns.
    """
    parent = os.getpid()
    ready, done = os.pipe()
    pid = os.fork()
    if pid:
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
        return pid
    code = 1
    try:
        if new_session:
            os.setsid()
        os.close(ready)
        os.close(done)
        die_with_parent(parent)
        code = run()
    except BaseException:  # noqa: BLE001 - no code of the parent may run in the fork
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):  # nobody reads them, or they are closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def fork_server(descriptor: int, serve: Callable[[int], None]) -> OwnFork:
    """Start a fork server as a fork of this process, which has one thread; it has no descriptor but this one."""

    def run() -> int:
        os.closerange(FIRST_DESCRIPTOR, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        serve(descriptor)
        return 0

    return OwnFork(fork(run))


@attrs.frozen
class OwnFork:
    """A fork of this process."""

    pid: int

    async def wait(self) -> int:
        """Wait for its end, and return its exit code, negative for a signal."""
        _, status = await asyncio.to_thread(os.waitpid, self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class ForkServer(ABC):
    """Forks on request; a subclass knows what its children run."""

    new_session = False  # whether each child leads a session of its own

    def __init__(self, link: socket.socket) -> None:
        """Serve what is at the other end of `link`, a socket that preserves packets."""
        self._link = link
        self._children: dict[int, int] = {}  # process IDs by descriptor (pidfd)
        self._ended: set[int] = set()  # process IDs of children that ended and are not reaped yet
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)

    @abstractmethod
    def become(self, argument: str, descriptors: Sequence[int]) -> int:
        """Run a child, in the process that was forked, and return its exit code. It owns the `descriptors`."""

    def prepare(self, argument: str) -> None:  # noqa: B027 - not all have something to do
        """Prepare a fork, in this process, by imports for example."""

    def idle_seconds(self) -> float | None:
        """Return after how many seconds `on_idle` is to be called; None: at the next message."""
        return None

    def on_idle(self) -> None:  # noqa: B027 - not all have something to do
        """Do what is due, after each message and when `idle_seconds` have passed."""

    def on_end(self) -> None:  # noqa: B027 - not all have something to do
        """Note that a child has ended."""

    def run(self) -> None:
        """Fork children until the other end of the link is closed."""
        while True:
            seconds = self.idle_seconds()
            for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000):
                if descriptor == self._link.fileno():
                    if not self._take_request():
                        return
                elif descriptor in self._children:
                    self._report_end(descriptor)
            self.on_idle()

    def _take_request(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._link, MAX_PACKET, MAX_DESCRIPTORS)
        if not packet:
            return False
        kind, number, *argument = packet.decode().split(" ", 2)
        if kind == "fork":
            self._fork(int(number), " ".join(argument), descriptors)
        else:
            os.waitpid(int(number), 0)
            self._ended.discard(int(number))
        return True

    def _fork(self, request: int, argument: str, descriptors: Sequence[int]) -> None:
        try:
            self.prepare(argument)
            pid = fork(partial(self._become, argument, descriptors), new_session=self.new_session)
        except OSError as problem:
            self._send({"refused": problem.errno, "request": request})
        else:
            descriptor = os.pidfd_open(pid)
            self._children[descriptor] = pid
            self._poll.register(descriptor, select.POLLIN)
            self._send({"started": pid, "request": request})
        finally:
            for each in descriptors:
                os.close(each)

    def _become(self, argument: str, descriptors: Sequence[int]) -> int:
        self._link.close()
        for descriptor in self._children:
            os.close(descriptor)
        return self.become(argument, descriptors)

    def _report_end(self, descriptor: int) -> None:
        """Report a child that has ended; it stays a zombie until it is reaped, so that its PID is not reused."""
        pid = self._children.pop(descriptor)
        self._ended.add(pid)
        self.on_end()
        self._poll.unregister(descriptor)
        os.close(descriptor)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if ended is not None:
            status = ended.si_status
            self._send({"ended": pid, "code": status if ended.si_code == os.CLD_EXITED else -status})

    def _send(self, message: dict[str, int | None]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read notices it, too
            self._link.send(orjson.dumps(message))
