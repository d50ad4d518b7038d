"""The watchdog: decides from the shared record and samples of the child's resource usage whether to kill the child.

Limits apply to the child's *own time*: its CPU time and, for calls and the event loop, the time that it slept
voluntarily. Time spent waiting for a CPU, or stopped, does not count: on a busy machine an expression of 0.2 s may take
20 s. A much larger limit of wall time applies as well, for an expression that sleeps, and for systems that do not
distinguish a sleeping process from a waiting one.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import attrs
import psutil

from flowhook import limits
from flowhook.model import WorkflowError
from runner.guard.evaluation_record import Activity, RecordSnapshot
from runner.interpreter.errors import Kind, error

# Own time without a beat of the event loop, and without an evaluation, after which the loop counts as stuck. It is also
# the limit of one step of a call, which identifies the component that blocks.
STALL_SECONDS: Final = 10.0
# own time after which an expression is stopped in a process that others share; it continues in quarantine
SHARED_SECONDS: Final = 0.5
QUARANTINE_SECONDS: Final = 600.0  # time that a flow stays in quarantine after one of its expressions was killed
WALL_FACTOR: Final = 30  # wall time that an evaluation or a step may take, as a multiple of its limit of own time

# Maximum time that counts between two samples; several times the interval between them. After a longer gap the watchdog
# itself was stopped, and most probably the child with it (a frozen container, a suspended laptop).
GAP_SECONDS: Final = 0.5

# names of activities in error messages
SUBJECTS: Final = {
    Activity.EXPRESSION: "the expression",
    Activity.STEP: "the call",
    Activity.BODY: "reading the event's body",
    Activity.INPUT: "reading the event's body",
}

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


@dataclass(frozen=True, slots=True)
class KillDecision:
    """The decision to kill the child."""

    reason: str  # for operators
    snapshot: RecordSnapshot | None  # the activity that caused it; None: the cause is unknown
    error: WorkflowError | None  # ends the execution; None: the execution continues in quarantine


@attrs.define(eq=False, repr=False, kw_only=True)
class Watchdog:
    """Judges one child, sample by sample. No I/O."""

    _expression_seconds: float  # own time of one evaluation
    _expression_bytes: int  # growth of the process in one evaluation
    # whether other executions wait for the child: evaluations above `SHARED_SECONDS` must move to quarantine
    _shared: bool = False
    _sequence: int = attrs.field(init=False, default=0)
    _beat_ns: int = attrs.field(init=False, default=0)
    _baseline: int = attrs.field(init=False, default=0)
    _sampled_ns: int = attrs.field(init=False, default=0)
    _cpu_ns: int = attrs.field(init=False, default=0)
    _own_ns: int = attrs.field(init=False, default=0)
    _wall_ns: int = attrs.field(init=False, default=0)

    def judge(self, snapshot: RecordSnapshot, usage: Usage, now_ns: int) -> KillDecision | None:
        """Judge one sample of record and child, at `now_ns` (CLOCK_MONOTONIC); None while no limit is exceeded."""
        if usage is GONE:
            return None  # the caller notices the exit by other means
        cpu, slept, wall = self._passed(usage, now_ns)
        if not snapshot.started_ns:
            return self._judge_loop(snapshot, cpu + slept)
        self._beat_ns = 0
        if snapshot.sequence != self._sequence:
            # both count from the first sample, at most one interval late: earlier usage may be of other work
            self._sequence, self._baseline = snapshot.sequence, usage.resident
            self._own_ns = self._wall_ns = 0
            return None
        # an expression computes and never sleeps: what looks like sleep is waiting for the GIL
        self._own_ns += cpu + slept if snapshot.is_step else cpu
        self._wall_ns += wall
        if snapshot.is_step:
            if self._is_over(STALL_SECONDS):
                return _kill_for(Kind.RUNTIME, snapshot, f"the call blocked the event loop for {STALL_SECONDS:g} s")
            return None
        subject = SUBJECTS[snapshot.activity]
        if self._is_over(self._expression_seconds):
            reason = time_limit_message(snapshot.activity, self._expression_seconds)
            return _kill_for(Kind.EXPRESSION, snapshot, reason)
        if usage.resident - self._baseline > self._expression_bytes:
            reason = f"{subject} used more than {self._expression_bytes // limits.MIB} MiB of memory"
            return _kill_for(Kind.EXPRESSION, snapshot, reason)
        # the flow of an `INPUT` is in quarantine already: others have to wait
        if self._shared and snapshot.activity is not Activity.INPUT and self._own_ns > SHARED_SECONDS * _NS:
            return KillDecision(f"{subject} delays other executions; its flow is put into quarantine", snapshot, None)
        return None

    def _passed(self, usage: Usage, now_ns: int) -> tuple[int, int, int]:
        """Return the CPU time, voluntary sleep and wall time since the last sample, in ns."""
        elapsed = min(now_ns - self._sampled_ns, int(GAP_SECONDS * _NS)) if self._sampled_ns else 0
        used = max(0, usage.cpu_ns - self._cpu_ns)
        self._sampled_ns, self._cpu_ns = now_ns, usage.cpu_ns
        if usage.state is SchedulingState.STOPPED:
            return used, 0, 0
        slept = max(0, elapsed - used) if usage.state is SchedulingState.SLEEPING else 0
        return used, slept, elapsed

    def _judge_loop(self, snapshot: RecordSnapshot, own: int) -> KillDecision | None:
        self._sequence = 0
        if not snapshot.beat_ns:
            return None
        if snapshot.beat_ns != self._beat_ns:
            self._beat_ns, self._own_ns = snapshot.beat_ns, 0
            return None
        self._own_ns += own
        return KillDecision("its event loop is blocked", None, None) if self._own_ns > STALL_SECONDS * _NS else None

    def _is_over(self, seconds: float) -> bool:
        return self._own_ns > seconds * _NS or self._wall_ns > WALL_FACTOR * seconds * _NS


def time_limit_message(activity: Activity, seconds: float) -> str:
    verb = "ran for" if activity is Activity.EXPRESSION else "took"
    return f"{SUBJECTS[activity]} {verb} more than {seconds:g} s"


def is_probable_cause(snapshot: RecordSnapshot, returncode: int | None) -> bool:
    """Whether a child that its guard did not kill probably died of its recorded activity, so that it is charged.

    A step of a call is not charged for a SIGKILL: the call can't send one, and its sender need not have acted because
    of the call. During an expression, or while a body is parsed, the sender may be the kernel's OOM killer.
    """
    is_sent = snapshot.is_step and returncode == -signal.SIGKILL
    return bool(snapshot.started_ns and snapshot.lease) and not is_sent


def _kill_for(kind: Kind, snapshot: RecordSnapshot, reason: str) -> KillDecision:
    return KillDecision(reason, snapshot, error(kind, reason, instance=snapshot.instance))
