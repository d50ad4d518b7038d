"""Lowers the CPU scheduling priority of child processes."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Final

TRIES: Final = 10
PAUSE_SECONDS: Final = 0.1
"""Interval in which the kernel accepts one change of a session's priority from a user other than root."""


async def lower_priority(pid: int, nice: int) -> None:
    """Lower the priority of a process that was just started in a session of its own, and of its future children.

    Where the kernel first shares the cores among sessions (autogroups; most desktops, and servers without control
    groups around a process), a nice value has effect only within the session. So the session gets one as well. Errors
    of the system are ignored: only speed depends on the priority.

    Args:
        pid: process ID of a child; it may have ended meanwhile.
        nice: increment of its nice value; 0 changes nothing.

    Source: sched(7), "The autogroup feature".
    """
    if nice <= 0:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + nice)
        await _lower_session(Path(f"/proc/{pid}/autogroup"), nice)
    except OSError:
        pass


async def _lower_session(group: Path, nice: int) -> None:
    for _ in range(TRIES):
        try:
            group.write_text(str(nice))  # noqa: ASYNC240 - a write to /proc does not block on a disk
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
