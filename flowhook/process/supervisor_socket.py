"""Socket between a process and the supervisor that started it.

A supervisor passes each process one end of a socket pair (`FLOWHOOK_PARENT_FD`). The supervisor sends one line, a JSON
object: settings that were not known when the process was started, as environment variables; with the whole environment,
if the process was forked. The process sends JSON objects, one per line: what it waits for, then that it is ready,
and its addresses. The kernel closes the socket when either process ends, however it ends.

This module imports next to nothing.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import orjson

PARENT_FD: Final = "FLOWHOOK_PARENT_FD"  # environment variable: descriptor of the socket to the supervisor
_BLOCK_BYTES: Final = 65536


def receive_settings() -> bool:
    """Wait for the rest of the settings, and add them to the environment. Blocking, without a timeout.

    Call it once, before `take_socket`, in a process that a supervisor started. False if the supervisor has ended.
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
    """Return the socket to the supervisor, None without one; child processes don't inherit it."""
    descriptor = os.environ.pop(PARENT_FD, "")
    if not descriptor:
        return None
    parent = socket.socket(fileno=int(descriptor))
    parent.set_inheritable(False)
    return parent
