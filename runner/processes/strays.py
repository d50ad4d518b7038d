"""Ends what a process left behind whose launcher could not do that, because it was killed or stopped.

Whatever loses its parent becomes a child of the nearest ancestor that adopts: a launcher, if it lives, else the working
process, else the one that forked that. Each ends what it has adopted. Linux only; elsewhere this does nothing.

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
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from flowhook import limits

_PR_SET_CHILD_SUBREAPER: Final = 36
_TASKS: Final = Path("/proc/self/task")
_NO_NEW_PRIVILEGES: Final = b"\nNoNewPrivs:\t1\n"

FILE_BYTES: Final = 64 * limits.MIB
"""Size of a file that a launcher and all that it starts may write."""

ROUNDS: Final = 20
"""Looks that one sweep takes at the children of this process."""

_PAUSE_SECONDS: Final = 0.005
"""Between two looks, for those that were killed to die."""


class Sweep(NamedTuple):
    """What came of a sweep.

    Attributes:
        ended: how many strays were killed and reaped.
        is_over: whether none is left. Else they come as fast as they are found, or don't let themselves be killed.
    """

    ended: int
    is_over: bool


def adopt() -> None:
    """Have descendants of this process that lose their parent become its children."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_of_a_launcher(child: int) -> bool:
    """Whether a child of this process is a launcher, or has come to it from one.

    Launchers are in a session of their own, can't gain privileges and write files of `FILE_BYTES` at most. All that
    they start inherits that, and undoes none of it, but for root the last. What this process is itself says nothing
    of its children; where it is all of that, those in another session are taken for strays.
    """
    try:
        if os.getsid(child) == os.getsid(0):
            return False
        if not _is_confined(os.getpid()):
            return _is_confined(child)
        return _writes_little(child) or _writes_little(0)
    except (ProcessLookupError, FileNotFoundError, PermissionError):  # gone, or of another user, as no launcher is
        return False


def end_strays(is_stray: Callable[[int], bool], *, rounds: int = ROUNDS) -> Sweep:
    """Kill and reap the children of this process that are strays, and what they leave to it in turn.

    Blocking for as long as it takes to look `rounds` times, 5 ms apart.
    """
    ended = 0
    for round_ in range(rounds):
        strays = [child for child in _children() if is_stray(child)]
        if not strays:
            return Sweep(ended, is_over=True)
        if round_:
            time.sleep(_PAUSE_SECONDS)
        for stray in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stray, signal.SIGKILL)
        for stray in strays:
            with contextlib.suppress(ChildProcessError):
                ended += os.waitpid(stray, os.WNOHANG)[0] == stray
    return Sweep(ended, is_over=False)


def _writes_little(process: int) -> bool:
    limit = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
    return resource.RLIM_INFINITY != limit <= FILE_BYTES


def _is_confined(process: int) -> bool:
    return _NO_NEW_PRIVILEGES in Path(f"/proc/{process}/status").read_bytes()


def _children() -> list[int]:
    """Return the children of all threads of this process, dead ones included; none where the system does not say."""
    found: list[int] = []
    for file in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_bytes().split())
    return found
