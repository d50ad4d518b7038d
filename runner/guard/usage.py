"""Samples what a process uses: CPU time, memory, and whether it runs, sleeps or is stopped."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import psutil

_NS: Final = 1_000_000_000


class State(Enum):
    """What a process is doing, as far as it matters to whoever waits for it."""

    RUNNABLE = "runnable"
    """It computes, waits for a processor or a page: it goes on as soon as the machine lets it."""
    SLEEPING = "sleeping"
    """It waits for something of its own choice; more CPU time would not help it."""
    STOPPED = "stopped"
    """It was stopped by a signal or a debugger, or has ended."""


class Usage(NamedTuple):
    """One sample of a process.

    Attributes:
        cpu_ns: CPU time that all of its threads have used, user and system; in steps of about 10 ms.
        resident: bytes of memory.
        state: of its first thread. Systems that do not tell it apart report `RUNNABLE`.
    """

    cpu_ns: int
    resident: int
    state: State


GONE: Final = Usage(0, 0, State.STOPPED)

_STATES: Final = {
    psutil.STATUS_SLEEPING: State.SLEEPING,
    psutil.STATUS_IDLE: State.SLEEPING,
    psutil.STATUS_PARKED: State.SLEEPING,
    psutil.STATUS_STOPPED: State.STOPPED,
    psutil.STATUS_TRACING_STOP: State.STOPPED,
    psutil.STATUS_ZOMBIE: State.STOPPED,
    psutil.STATUS_DEAD: State.STOPPED,
}


class ProcessUsage:
    """Samples one process, by psutil: on every system that it supports. Never blocks for long."""

    def __init__(self, pid: int) -> None:
        """Sample the process `pid`, which need not live."""
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    def sample(self) -> Usage:
        """Return what it uses now; `GONE` when it is no more."""
        if self._process is None:
            return GONE
        try:
            with self._process.oneshot():
                times = self._process.cpu_times()
                state = _STATES.get(self._process.status(), State.RUNNABLE)
                resident = self._process.memory_info().rss
        except psutil.Error:
            return GONE
        return Usage(int((times.user + times.system) * _NS), resident, state)
