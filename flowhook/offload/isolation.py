"""Isolates the calling process, which processes untrusted input, from everything but the socket to its parent."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from typing import Final

from flowhook.process.parent_death import die_with_parent

NICENESS: Final = 5
"""Nice value: long computations yield to the processes that many clients wait for."""


def isolate(descriptor: int, memory: int) -> socket.socket:
    """Ignore signals, clear the environment, close all other descriptors, and return the socket to the parent.

    The process ends with its parent from now on.

    Args:
        descriptor: file descriptor of the socket.
        memory: limit on its data, in bytes (RLIMIT_DATA), where the system enforces that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    die_with_parent()
    with contextlib.suppress(OSError, ValueError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # defence in depth: the parent passes none of these on
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    return link
