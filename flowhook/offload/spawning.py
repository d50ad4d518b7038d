"""Starts a process that is spoken to over a socket, and shares nothing else with the one that starts it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys


class SpawnedProcess:
    """A process that was started; like `asyncio.subprocess.Process`."""

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
        """Return its exit code. For one that is about to end: it takes a thread."""
        code = self._started.poll()
        return await asyncio.to_thread(self._started.wait) if code is None else code


def spawn(*arguments: str, options: tuple[str | float, ...]) -> tuple[SpawnedProcess, socket.socket]:
    """Start Python, and return the process and our end of its socket, which is blocking.

    By `subprocess`, which forks with vfork(2). The event loop's own fork(2) would run the handlers that gRPC has for
    forks while other threads are in gRPC, and one child in a hundred crashed in them.

    Args:
        arguments: of Python, which name what it runs.
        options: what that is told behind the number of its own end; it hands both to `isolation.isolate`.

    Raises:
        OSError: it can't be started.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own code
            (sys.executable, *arguments, str(theirs.fileno()), *map(str, options)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # libraries say there that they have no memory, which is no news
            pass_fds=(theirs.fileno(),),
            env={},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return SpawnedProcess(process), ours
