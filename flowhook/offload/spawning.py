"""Starts a process that is spoken to over a socket, and shares nothing else with the one that starts it."""

from __future__ import annotations

import asyncio
import socket
import sys


async def spawn(*arguments: str, options: tuple[str | float, ...]) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start Python, and return the process and our end of its socket, which is blocking.

    Args:
        arguments: of Python, which name what it runs.
        options: what that is told behind the number of its own end; it hands both to `isolation.isolate`.

    Raises:
        OSError: it can't be started.
    """
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            str(theirs.fileno()),
            *map(str, options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,  # libraries say there that they have no memory, which is no news
            pass_fds=(theirs.fileno(),),
            env={},
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
