"""How long a process may keep a core before the kernel looks whether one that has just woken should have it."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

SLICE_NS: Final = 100_000
"""The least that the kernel takes; its own is about 3 ms. What our processes do between two waits is as short."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call, for which most C libraries have no function."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: its size, policy, flags, nice value, priority, runtime, deadline, period."""


def shorten() -> bool:
    """Have this thread, and all threads and processes that it starts from now on, ask for short turns.

    Source: sched_setattr(2). Linux 6.12 and newer take the runtime of an ordinary thread for the length of its turns;
    older ones and other systems leave it as it is, and nothing but speed depends on it.

    Returns:
        Whether the kernel took it.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if not sys.platform.startswith("linux") or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # it is set as well
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
