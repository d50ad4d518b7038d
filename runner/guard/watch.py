"""Decides from the shared record and the child's memory whether the child has to die."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowhook.model import WorkflowError
from runner.guard.record import Evaluation
from runner.interpreter.errors import Kind, error

STALL_SECONDS: Final = 10.0
"""An event loop that did not run for so long, with nothing being evaluated, is stuck in a component; one step of a call
that takes so long says in which."""

PAUSE_SECONDS: Final = 0.5
"""Several times the interval between looks. Whoever does not look for so long was stopped, and the child most probably
with it (a frozen container, a machine without a processor to spare); it is not charged for that time."""

_NS: Final = 1_000_000_000
_MIB: Final = 1024 * 1024
_LIMIT_STATUS: Final = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """The child has to die. `evaluation` names the culprit and `error` what it faults with; None: unknown."""

    reason: str
    evaluation: Evaluation | None
    error: WorkflowError | None


class Watch:
    """Looks at one child, sample by sample. No I/O."""

    def __init__(self, *, expression_seconds: float, expression_bytes: int) -> None:
        """Allow each evaluation so much time (s) and growth of the process (bytes)."""
        self._seconds = expression_seconds
        self._bytes = expression_bytes
        self._sequence = 0
        self._baseline = 0
        self._looked_ns = 0
        self._paused_ns = 0
        self._resumed_ns = 0

    def look(self, evaluation: Evaluation, memory: int, now_ns: int) -> Verdict | None:
        """Judge one sample.

        Args:
            evaluation: what the record says.
            memory: resident bytes of the child.
            now_ns: CLOCK_MONOTONIC.

        Returns:
            None while all is well.
        """
        pause = self._pause(now_ns)
        if not evaluation.started_ns:
            self._sequence = 0
            alive = max(evaluation.beat_ns, self._resumed_ns)
            stalled = evaluation.beat_ns and now_ns - alive > STALL_SECONDS * _NS
            return Verdict("its event loop is stuck", None, None) if stalled else None
        if evaluation.sequence != self._sequence:
            # growth counts from the first look, at most one interval late: what came before it may be others' work
            self._sequence, self._baseline = evaluation.sequence, memory
            self._paused_ns, pause = 0, min(pause, now_ns - evaluation.started_ns)
        self._paused_ns += pause
        if evaluation.is_step:
            if now_ns - evaluation.started_ns - self._paused_ns > STALL_SECONDS * _NS:
                return _guilty(Kind.RUNTIME, evaluation, f"the call blocked its runner for {STALL_SECONDS:g} s")
            return None
        if now_ns - evaluation.started_ns - self._paused_ns > self._seconds * _NS:
            return _guilty(Kind.EXPRESSION, evaluation, f"the expression ran for more than {self._seconds:g} s")
        if memory - self._baseline > self._bytes:
            return _guilty(
                Kind.EXPRESSION, evaluation, f"the expression took more than {self._bytes // _MIB} MiB of memory"
            )
        return None

    def _pause(self, now_ns: int) -> int:
        """Return for how long nobody looked, if that was no mere delay: then the whole machine, or we, stood still."""
        pause = now_ns - self._looked_ns if self._looked_ns else 0
        self._looked_ns = now_ns
        if pause <= PAUSE_SECONDS * _NS:
            return 0
        self._resumed_ns = now_ns
        return pause


def confessed(evaluation: Evaluation, returncode: int | None) -> bool:
    """Whether a child that was not killed by its guard died of what its record says: likely enough to be charged.

    A step of a call can't send a SIGKILL: whoever did has his reasons, and they need not be this call. While an
    expression is evaluated it may be the kernel, for the memory that it takes.
    """
    if not evaluation.started_ns or not evaluation.lease:
        return False
    return not (evaluation.is_step and returncode == -signal.SIGKILL)


def _guilty(kind: Kind, evaluation: Evaluation, reason: str) -> Verdict:
    return Verdict(reason, evaluation, error(kind, reason, status=_LIMIT_STATUS, instance=evaluation.instance))


class Memory:
    """Resident memory of a process, from /proc. Source: proc(5), /proc/pid/statm."""

    def __init__(self, pid: int, page_size: int) -> None:
        """Watch the process `pid`; pages have `page_size` bytes."""
        self._path = Path(f"/proc/{pid}/statm")
        self._page_size = page_size

    def resident(self) -> int:
        """Return bytes; 0 when the process is gone."""
        try:
            return int(self._path.read_bytes().split()[1]) * self._page_size
        except (OSError, IndexError):
            return 0
