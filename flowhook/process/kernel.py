"""Kernel settings of a process: its limit of open files, its end with its parent's, and short time slices.

A process that reaches its limit of open files (RLIMIT_NOFILE: sockets, the database, and gRPC's own descriptors) fails
at an arbitrary place, and gRPC aborts the whole process. So the limit is checked before anything is opened.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Final

from flowhook.errors import InvalidError

# soft limit that a process requests if its own is lower; an edge requests more, according to its connections
WANTED: Final = 4096
# Minimum for a process to start. An idle process uses about 30; each runner, each upload and each request that a flow
# sends uses some more.
NEEDED: Final = 256
SPARE: Final = 256  # file descriptors that a process needs in addition to those of its connections
# exit code of a process whose parent ended before the process could request the kernel's signal
EXIT_ORPHANED: Final = 1
_PR_SET_PDEATHSIG: Final = 1
# Minimum that the kernel accepts; its default is about 3 ms. Our processes do about as much between two waits.
SLICE_NS: Final = 100_000
# numbers of the system call by machine: most C libraries have no function for it
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: its size, policy, flags, nice value, priority, runtime, deadline, period
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


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


def set_title(title: str) -> None:
    """Show `title` as the command line of this process in lists of processes, cut to the length of the present one.

    Linux only, and only if the kernel tells where the command line is.

    Source: proc(5), fields 48 and 49 of /proc/PID/stat.
    """
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return
    start, end = map(int, fields[45:47])
    if start < end:
        ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


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
