"""Refuses processes and sockets to a test: what needs them is no unit."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import Final

REFUSED: Final = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
    }
)
"""Audit events. A pair of connected sockets is none of them: each event loop has one."""

_active = False


def _refuse(event, _arguments):
    # other threads may be those of processes that earlier tests of this worker keep, see `support.warm`
    if _active and event in REFUSED and threading.current_thread() is threading.main_thread():
        raise AssertionError(f"a unit test causes {event}: move it to tests/integration")


sys.addaudithook(_refuse)


@contextmanager
def alone():
    """Refuse processes and sockets within the block."""
    global _active  # noqa: PLW0603 - an audit hook is never removed
    _active = True
    try:
        yield
    finally:
        _active = False
