"""Processes of flows: started with a marker in their command line, by which they are found."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from support.patience import PATIENCE


async def running(marker, count=0):
    """Wait until there are `count` processes with `marker` in their command line."""
    async with asyncio.timeout(PATIENCE):
        while len(processes(marker)) != count:
            await asyncio.sleep(0.01)


def directories(marker):
    """Return the directories in which a process left its marker."""
    return list(Path(tempfile.gettempdir()).glob(f"flowhook-*/{marker}"))


def processes(marker):
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments, state = (path / "cmdline").read_bytes().split(b"\0"), (path / "stat").read_bytes()
        except OSError:
            continue
        if marker.encode() in arguments and b") Z " not in state:
            found.append(int(path.name))
    return found


# a child, one in a group of its own, and a daemon that has left its session and its parents
FAMILY = "touch $1; sleep $1 & setsid sleep $1 & (setsid sh -c 'sleep $0 & sleep $0' $1 &) ; {}"
