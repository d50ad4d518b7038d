"""Isolates the calling process, which works on what strangers sent, from all but the socket it is spoken to over."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from typing import Final

from flowhook.parent_death import die_with_parent

NICENESS: Final = 5
"""Work that is known to take long gives way to what many wait for."""


def isolate(descriptor: int, memory: int) -> socket.socket:
    """Leave this process no signal to handle, no environment and no other descriptor; return its socket.

    It ends with its parent.

    Args:
        descriptor: of the socket.
        memory: bytes that it may have from now on (RLIMIT_DATA), where the system enforces that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    die_with_parent()
    with contextlib.suppress(OSError, ValueError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # not every event loop closes what it should not pass on
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    return link
