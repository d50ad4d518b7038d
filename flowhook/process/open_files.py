"""Checks and raises the limit of open files (RLIMIT_NOFILE): sockets, the database, and gRPC's own descriptors.

A process that reaches its limit fails at an arbitrary place, and gRPC aborts the whole process. So the limit is checked
before anything is opened.
"""

from __future__ import annotations

import resource
from typing import Final

from flowhook.errors import InvalidError

# soft limit that a process requests if its own is lower; an edge requests more, according to its connections
WANTED: Final = 4096
# Minimum for a process to start. An idle process uses about 30; each runner, each upload and each request that a flow
# sends uses some more.
NEEDED: Final = 256
SPARE: Final = 256  # file descriptors that a process needs in addition to those of its connections


def connection_limit(connections: int) -> int:
    """Raise this process's limit of open files for `connections`; return how many connections it allows, at least 1."""
    soft = raise_soft_limit(connections + SPARE)
    return connections if soft is None else min(connections, max(1, soft - SPARE))


def raise_soft_limit(wanted: int) -> int | None:
    """Raise the soft limit of open files to `wanted` at most, never lower it, and return it; None: unlimited."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def ensure_limit(needed: int = NEEDED) -> None:
    """Raise the limit of open files of this process, and of its child processes, towards `WANTED`.

    Raises:
        InvalidError: the limit stays below `needed` (`TOO_FEW_OPEN_FILES`).

    Source: getrlimit(2).
    """
    soft = raise_soft_limit(WANTED)
    if soft is not None and soft < needed:
        raise InvalidError(
            f"this process may open {soft} files, and needs {needed}: "
            f"run `ulimit -n {WANTED}` before it, or set LimitNOFILE={WANTED} in its systemd unit",
            reason="TOO_FEW_OPEN_FILES",
        )
