"""The socket between a process and the supervisor that started it; this module imports next to nothing.

A supervisor hands each process one end of a socket pair (`FLOWHOOK_PARENT_FD`). Down it comes one line, a JSON object:
settings that were not known when the process was started, as environment variables. Up go JSON objects, one a line:
that the process is ready, and where it listens. It is closed when either of them ends, however it ends.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import orjson

PARENT_FD: Final = "FLOWHOOK_PARENT_FD"
"""Environment variable: descriptor of the socket to the supervisor."""

_BLOCK_BYTES: Final = 65536


def receive_settings() -> bool:
    """Wait for the rest of the settings, and put them into the environment. Blocking, for as long as it takes.

    Call it once, before `take_socket`, in a process that a supervisor started.

    Returns:
        False when the supervisor is gone.
    """
    with socket.socket(fileno=os.dup(int(os.environ[PARENT_FD]))) as parent:
        line = b""
        while not line.endswith(b"\n"):
            part = parent.recv(_BLOCK_BYTES)
            if not part:
                return False
            line += part
    os.environ.update(orjson.loads(line))
    return True


def take_socket() -> socket.socket | None:
    """Return the socket to the supervisor, None without one; what this process starts will not have it."""
    descriptor = os.environ.pop(PARENT_FD, "")
    if not descriptor:
        return None
    parent = socket.socket(fileno=int(descriptor))
    parent.set_inheritable(False)
    return parent
