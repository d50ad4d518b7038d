"""How much of the machine a process gets while others want it, too."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Final

TRIES: Final = 10
PAUSE_SECONDS: Final = 0.1
"""The kernel takes one change of a session's priority in so long, of anybody who is not root."""


async def lower(pid: int, nice: int) -> None:
    """Lower the priority of a process that has just been started in a session of its own, and of all it will start.

    Where the kernel shares the cores among sessions first (autogroups; most desktops and servers that have no control
    groups around a process), a nice value counts within the session alone, so that the session gets one as well.
    What the system refuses is left as it is: nothing but speed depends on it.

    Args:
        pid: of a child; it may have ended meanwhile.
        nice: what is added to its nice value; 0 changes nothing.

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
            group.write_text(str(nice))  # noqa: ASYNC240 - it is no disk that this goes to
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
