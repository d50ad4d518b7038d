"""Decides from the shared record and from what the child uses whether the child has to die.

What counts is the child's *own time*: the CPU time that it used and, for calls and the event loop, the time that it
slept of its own choice. The time for which it waited for a processor, or was stopped with everything else, is the
machine's: on a busy one an expression of 0.2 s may take 20 s. Far behind that stands a limit of wall time, for an
expression that sleeps, and for systems that do not tell a sleeping process from a waiting one.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from flowhook.model import WorkflowError
from runner.guard.record import Activity, Evaluation
from runner.guard.usage import GONE, State, Usage
from runner.interpreter.errors import Kind, error

STALL_SECONDS: Final = 10.0
"""Own time for which an event loop may not run, with nothing being evaluated, before it is stuck in a component; one
step of a call that takes so long says in which."""

SHARED_SECONDS: Final = 0.5
"""Own time after which an expression is no longer evaluated where others wait for it; it goes on in quarantine."""

WALL_FACTOR: Final = 30
"""Wall time that an evaluation or a step may take, as a multiple of its limit of own time."""

GAP_SECONDS: Final = 0.5
"""Several times the interval between looks. Whoever does not look for so long was stopped, and the child most probably
with it (a frozen container, a suspended laptop): of a longer gap no more than this counts."""

SUBJECTS: Final = {
    Activity.EXPRESSION: "the expression",
    Activity.STEP: "the call",
    Activity.BODY: "reading the event's body",
    Activity.INPUT: "reading the event's body",
}
"""What an activity is called in errors."""

_NS: Final = 1_000_000_000
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """The child has to die.

    Attributes:
        reason: for operators.
        evaluation: what was under way; None: nothing is known to be to blame.
        error: what the execution faults with; None: it does not, it is to be evaluated in quarantine.
    """

    reason: str
    evaluation: Evaluation | None
    error: WorkflowError | None


class Watch:
    """Looks at one child, sample by sample. No I/O."""

    def __init__(self, *, expression_seconds: float, expression_bytes: int, shared: bool = False) -> None:
        """Allow each evaluation so much own time (s) and growth of the process (bytes).

        `shared`: others wait for the child; what takes longer than `SHARED_SECONDS` has to go on elsewhere.
        """
        self._seconds = expression_seconds
        self._bytes = expression_bytes
        self._shared_seconds = SHARED_SECONDS if shared and expression_seconds > SHARED_SECONDS else None
        self._sequence = 0
        self._beat_ns = 0
        self._baseline = 0
        self._looked_ns = 0
        self._cpu_ns = 0
        self._own_ns = 0
        self._wall_ns = 0

    def look(self, evaluation: Evaluation, usage: Usage, now_ns: int) -> Verdict | None:
        """Judge one sample.

        Args:
            evaluation: what the record says.
            usage: what the child uses.
            now_ns: CLOCK_MONOTONIC.

        Returns:
            None while all is well.
        """
        if usage is GONE:
            return None  # its end is seen otherwise
        cpu, slept, wall = self._passed(usage, now_ns)
        if not evaluation.started_ns:
            return self._look_at_loop(evaluation, cpu + slept)
        self._beat_ns = 0
        if evaluation.sequence != self._sequence:
            # both count from the first look, at most one interval late: what came before may be others' work
            self._sequence, self._baseline = evaluation.sequence, usage.resident
            self._own_ns = self._wall_ns = 0
            return None
        # an expression computes and never sleeps: what looks like that is waiting for the interpreter's lock
        self._own_ns += cpu + slept if evaluation.is_step else cpu
        self._wall_ns += wall
        if evaluation.is_step:
            if self._is_over(STALL_SECONDS):
                return _guilty(Kind.RUNTIME, evaluation, f"the call blocked its runner for {STALL_SECONDS:g} s")
            return None
        subject = SUBJECTS[evaluation.activity]
        if self._is_over(self._seconds):
            return _guilty(Kind.EXPRESSION, evaluation, over_time(evaluation.activity, self._seconds))
        if usage.resident - self._baseline > self._bytes:
            return _guilty(Kind.EXPRESSION, evaluation, f"{subject} took more than {self._bytes // _MIB} MiB of memory")
        if evaluation.activity is Activity.INPUT:
            return None  # the others have to wait: in quarantine it is already
        if self._shared_seconds is not None and self._own_ns > self._shared_seconds * _NS:
            return Verdict(f"{subject} holds up others; its flow goes into quarantine", evaluation, None)
        return None

    def _passed(self, usage: Usage, now_ns: int) -> tuple[int, int, int]:
        """Return what passed since the last look: CPU time, time that the child slept beside that, and wall time."""
        elapsed = min(now_ns - self._looked_ns, int(GAP_SECONDS * _NS)) if self._looked_ns else 0
        used = max(0, usage.cpu_ns - self._cpu_ns)
        self._looked_ns, self._cpu_ns = now_ns, usage.cpu_ns
        if usage.state is State.STOPPED:
            return used, 0, 0
        slept = max(0, elapsed - used) if usage.state is State.SLEEPING else 0
        return used, slept, elapsed

    def _look_at_loop(self, evaluation: Evaluation, own: int) -> Verdict | None:
        self._sequence = 0
        if not evaluation.beat_ns:
            return None
        if evaluation.beat_ns != self._beat_ns:
            self._beat_ns, self._own_ns = evaluation.beat_ns, 0
            return None
        self._own_ns += own
        return Verdict("its event loop is stuck", None, None) if self._own_ns > STALL_SECONDS * _NS else None

    def _is_over(self, seconds: float) -> bool:
        return self._own_ns > seconds * _NS or self._wall_ns > WALL_FACTOR * seconds * _NS


def over_time(activity: Activity, seconds: float) -> str:
    """Return what errors say of something that used more than `seconds` of CPU time."""
    verb = "ran for" if activity is Activity.EXPRESSION else "took"
    return f"{SUBJECTS[activity]} {verb} more than {seconds:g} s"


def confessed(evaluation: Evaluation, returncode: int | None) -> bool:
    """Whether a child that was not killed by its guard died of what its record says: likely enough to be charged.

    A step of a call can't send a SIGKILL: whoever did has his reasons, and they need not be this call. While an
    expression is evaluated, or a body read, it may be the kernel, for the memory that it takes.
    """
    if not evaluation.started_ns or not evaluation.lease:
        return False
    return not (evaluation.is_step and returncode == -signal.SIGKILL)


def _guilty(kind: Kind, evaluation: Evaluation, reason: str) -> Verdict:
    return Verdict(reason, evaluation, error(kind, reason, instance=evaluation.instance))
