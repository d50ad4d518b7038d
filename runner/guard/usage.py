"""Samples the CPU time, memory and scheduling state of a process."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import psutil

_NS: Final = 1_000_000_000


class SchedulingState(Enum):
    """Scheduling state of a process."""

    RUNNABLE = "runnable"  # computes, or waits for a CPU or a page: it continues as soon as the machine lets it
    SLEEPING = "sleeping"  # waits voluntarily; more CPU time would not help
    STOPPED = "stopped"  # stopped by a signal or a debugger, or ended


class Usage(NamedTuple):
    """One sample of a process."""

    cpu_ns: int  # CPU time of all threads, user and system; in steps of about 10 ms
    resident: int  # resident memory in bytes
    state: SchedulingState  # of its first thread; `RUNNABLE` on systems that do not report it


GONE: Final = Usage(0, 0, SchedulingState.STOPPED)

_STATES: Final = dict.fromkeys(
    (psutil.STATUS_SLEEPING, psutil.STATUS_IDLE, psutil.STATUS_PARKED), SchedulingState.SLEEPING
) | dict.fromkeys(
    (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD),
    SchedulingState.STOPPED,
)


class UsageSampler:
    """Samples one process through psutil, on every system that psutil supports. Never blocks for long."""

    def __init__(self, pid: int) -> None:
        """Sample the process `pid`, which may have ended."""
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    def sample(self) -> Usage:
        """Return the present usage; `GONE` if the process has ended."""
        if self._process is None:
            return GONE
        try:
            with self._process.oneshot():
                times = self._process.cpu_times()
                state = _STATES.get(self._process.status(), SchedulingState.RUNNABLE)
                resident = self._process.memory_info().rss
        except psutil.Error:
            return GONE
        return Usage(int((times.user + times.system) * _NS), resident, state)
