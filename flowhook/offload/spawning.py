"""Starts a Python process that shares only a socket with its parent."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys


class SpawnedProcess:
    """A started process, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self._started = started
        self.pid = started.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._started.poll()

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self._started.kill()

    async def wait(self) -> int:
        """Wait for its end and return its exit code. Occupies a thread: use it for a process that is about to end."""
        code = self._started.poll()
        return await asyncio.to_thread(self._started.wait) if code is None else code


def spawn(*arguments: str, options: tuple[str | float, ...]) -> tuple[SpawnedProcess, socket.socket]:
    """Start a Python process; return it and the parent's end of its socket, which is blocking.

    Uses `subprocess`, which forks with vfork(2). The event loop's fork(2) would run gRPC's fork handlers while other
    threads are in gRPC; one child in a hundred crashed in them.

    Args:
        arguments: arguments of Python, which select the program to run.
        options: arguments of the program, after the number of its socket; it passes them on to `isolation.isolate`.

    Raises:
        OSError: the process can't be started.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own code
            (sys.executable, *arguments, str(theirs.fileno()), *map(str, options)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # libraries report a lack of memory there, which is expected
            pass_fds=(theirs.fileno(),),
            env={},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return SpawnedProcess(process), ours
