"""Ends a process together with its parent process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

# exit code of a process whose parent ended before the process could request the kernel's signal
EXIT_ORPHANED: Final = 1
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int | None = None) -> None:
    """Let the kernel kill this process when its parent ends, even if the event loop is blocked. Linux only.

    On other systems this does nothing. `parent` is the parent's process ID, if known from before: a parent that has
    already ended is detected then.

    Source: prctl(2).
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)
