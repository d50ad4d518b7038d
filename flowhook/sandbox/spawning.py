"""Starts child processes: the only place that does, but for those that fork or need a terminal's streams."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import attrs


@attrs.define(eq=False, repr=False)
class SpawnedProcess:
    """A started process."""

    _started: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process ID; not reused while `returncode` is None."""
        return self._started.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._started.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._started.send_signal(number)

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self._started.kill()

    async def wait(self) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        if (code := self._started.poll()) is not None:
            return code
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, a kernel before 5.3, or a container that forbids the call
            return await asyncio.to_thread(self._started.wait)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self._started.wait()


def spawn(
    command: Sequence[str],
    *,
    descriptors: Sequence[int] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    quiet: bool = False,
    new_session: bool = False,
) -> SpawnedProcess:
    """Start a process with this environment, an empty standard input, and no `descriptors` but these, output and error.

    Uses `subprocess`, which forks with vfork(2). The event loop's fork(2) would run gRPC's fork handlers while other
    threads are in gRPC; one child in a hundred crashed in them.

    Args:
        command: the program and its arguments.
        descriptors: file descriptors that it inherits.
        environment: all of it.
        quiet: whether what it writes is discarded: libraries report a lack of memory there, which is expected.
        new_session: whether it leads a session of its own, which signals of the terminal do not reach.

    Raises:
        OSError: the process can't be started.
    """
    output = subprocess.DEVNULL if quiet else None
    return SpawnedProcess(
        subprocess.Popen(  # noqa: S603 - our own code, and programs that the operator names
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            env=environment,
            start_new_session=new_session,
        )
    )


def python_command(module: str, *arguments: object) -> tuple[str, ...]:
    """Return the command that runs a module of ours, isolated (-I) from other code.

    Neither the working directory, the user's packages nor PYTHON* variables make it import any.
    """
    return (sys.executable, "-I", "-m", module, *map(str, arguments))


@contextmanager
def socket_pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give this process's end of a socket pair, and that of the process that the block starts.

    The latter is closed after the block; the former if the block raises.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    try:
        with theirs:
            yield ours, theirs
    except BaseException:
        ours.close()
        raise
