"""Checks and raises the limit of open files: sockets, the database, and whatever gRPC needs for itself.

A process that comes to its limit fails where it happens to be; gRPC takes the whole process with it. So the limit is
looked at before anything is opened.
"""

from __future__ import annotations

import resource
from typing import Final

from flowhook.errors import InvalidError

WANTED: Final = 4096
"""Descriptors that a process asks for where the soft limit is lower; an edge asks for more, by its connections."""

NEEDED: Final = 256
"""With fewer a process does not start. One that has nothing to do takes about 30; each runner, each upload and each
request that a flow sends takes some more."""


def raise_towards(wanted: int) -> int | None:
    """Raise the soft limit of open files to `wanted`, or as far as the hard one lets it; never lower it.

    Returns:
        The soft limit; None: there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def ensure(needed: int = NEEDED) -> None:
    """Raise the limit of open files of this process, and of what it starts, towards `WANTED`.

    Raises:
        InvalidError: there can't be `needed` (`TOO_FEW_OPEN_FILES`).

    Source: getrlimit(2).
    """
    soft = raise_towards(WANTED)
    if soft is not None and soft < needed:
        raise InvalidError(
            f"this process may open {soft} files, and needs {needed}: "
            f"run `ulimit -n {WANTED}` before it, or set LimitNOFILE={WANTED} in its systemd unit",
            reason="TOO_FEW_OPEN_FILES",
        )
