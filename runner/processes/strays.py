"""Ends what a process left behind whose launcher could not do that, because it was killed or stopped.

Whatever loses its parent becomes a child of the nearest ancestor that adopts: a launcher, if it lives, else the working
process, else the one that forked that. Each ends what it has adopted. Linux only; elsewhere this does nothing.

Source: prctl(2), `PR_SET_CHILD_SUBREAPER`; proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_TASKS: Final = Path("/proc/self/task")


def adopt() -> None:
    """Have descendants of this process that lose their parent become its children."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_of_another_session(child: int) -> bool:
    """Whether a child of this process is in another session: none that it starts is, but for launchers."""
    try:
        return os.getsid(child) != os.getsid(0)
    except ProcessLookupError:
        return False


def end_strays(is_stray: Callable[[int], bool]) -> int:
    """Kill and reap the children of this process that are strays, and theirs, until there are none. Blocking.

    Returns:
        How many there were.
    """
    count = 0
    while strays := [child for child in _children() if is_stray(child)]:
        for stray in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stray, signal.SIGKILL)
        for stray in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, 0)
        count += len(strays)
    return count


def _children() -> list[int]:
    """Return the children of all threads of this process, dead ones included; none where the system does not say."""
    found: list[int] = []
    for file in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_bytes().split())
    return found
