"""Ends a process together with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

EXIT_ORPHANED: Final = 1
"""Exit code of a process whose parent was gone before it could ask for that."""

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process with its parent (Linux): also when its loop is stuck. Source: prctl(2).

    Elsewhere it does nothing. `parent` is its process ID, where that is known from before: a parent that is gone
    already is noticed then.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)
