"""Requests a shorter Linux scheduler time slice (sched_setattr)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

# Minimum that the kernel accepts; its default is about 3 ms. Our processes do about as much between two waits.
SLICE_NS: Final = 100_000
# numbers of the system call by machine: most C libraries have no function for it
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: its size, policy, flags, nice value, priority, runtime, deadline, period
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def request_short_slice() -> bool:
    """Request the time slice for this thread, and for all that it starts; return whether the kernel accepted it.

    After a time slice the scheduler may give the core to a task that has just woken up. Linux 6.12 and newer use the
    runtime of an ordinary thread as the length of its time slices; older versions and other systems ignore it. Nothing
    but speed depends on it.

    Source: sched_setattr(2).
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if not sys.platform.startswith("linux") or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # the call sets the nice value, too
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
