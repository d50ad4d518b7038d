"""Kills orphaned processes of flows whose launcher could not, because it was itself killed or stopped.

A process that loses its parent becomes a child of the nearest ancestor that is a subreaper: a launcher, if it lives,
else the worker process, else the fork server. Each kills the processes that it has adopted. Linux only; elsewhere this
does nothing.

Source: prctl(2), `PR_SET_CHILD_SUBREAPER`, `PR_SET_NO_NEW_PRIVS`; prlimit(2); proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from flowhook import limits

_PR_SET_CHILD_SUBREAPER: Final = 36
_TASKS: Final = Path("/proc/self/task")
_NO_NEW_PRIVILEGES: Final = b"\nNoNewPrivs:\t1\n"
FILE_BYTES: Final = 64 * limits.MIB  # maximum size of a file that a launcher and its descendants may write
ROUNDS: Final = 20  # maximum number of rounds of one sweep over the children of this process
_PAUSE_SECONDS: Final = 0.005  # pause between two rounds, in which killed processes die


class Sweep(NamedTuple):
    """Result of a sweep."""

    ended: int  # number of orphans that were killed and reaped
    is_over: bool  # whether none is left. If not, new ones appear as fast as they are killed, or some can't be killed.


def become_subreaper() -> None:
    """Make this process a subreaper: orphaned descendants become its children."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descends_from_launcher(child: int) -> bool:
    """Whether a child of this process is a launcher, or was adopted from one.

    A launcher runs in its own session, can't gain privileges, and can't write files larger than `FILE_BYTES`. Its
    descendants inherit these properties and can't undo them, except that root can raise the file size. Properties that
    this process has itself prove nothing about its children; if it has both, children in another session count as
    orphans.
    """
    try:
        if os.getsid(child) == os.getsid(0):
            return False
        if not _is_confined(os.getpid()):
            return _is_confined(child)
        return _writes_little(child) or _writes_little(0)
    except (ProcessLookupError, FileNotFoundError, PermissionError):  # gone, or of another user, as no launcher is
        return False


def children_of_this_process() -> list[int]:
    """Return the children of all threads of this process, zombies included; none if the system does not list them."""
    found: list[int] = []
    for file in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_bytes().split())
    return found


def kill_orphans(
    is_orphan: Callable[[int], bool],
    *,
    rounds: int = ROUNDS,
    children: Callable[[], Iterable[int]] = children_of_this_process,
) -> Sweep:
    """Kill and reap the children that are orphans by `is_orphan`, and the children that they leave in turn.

    Blocking for up to `rounds` rounds, 5 ms apart.
    """
    ended = 0
    for round_ in range(rounds):
        orphans = [child for child in children() if is_orphan(child)]
        if not orphans:
            return Sweep(ended, is_over=True)
        if round_:
            time.sleep(_PAUSE_SECONDS)
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        for orphan in orphans:
            with contextlib.suppress(ChildProcessError):
                ended += os.waitpid(orphan, os.WNOHANG)[0] == orphan
    return Sweep(ended, is_over=False)


def _writes_little(process: int) -> bool:
    limit = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
    return resource.RLIM_INFINITY != limit <= FILE_BYTES


def _is_confined(process: int) -> bool:
    return _NO_NEW_PRIVILEGES in Path(f"/proc/{process}/status").read_bytes()
