"""Runs what flows may make slow under the guard's supervision, and says for which flow it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from runner.guard.evaluation_record import Activity, EvaluationRecord

Result = TypeVar("Result")

SLOW_NS: Final = 50_000_000
"""CPU time (ns) of one activity above which its flow is quarantined: it blocks everything else in the process."""

# Age (ns) up to which a reading of the thread's CPU time counts as that of the start of an activity. It exceeds the CPU
# time at the start by no more than this, and reading it is a system call.
CPU_READING_NS: Final = 5_000_000


@attrs.define(eq=False, repr=False)
class Supervision:
    """The activities of one thread, one at a time; `on_slow` is called with the flow ID of a slow one."""

    record: EvaluationRecord
    _on_slow: Callable[[str], None] = lambda _flow_id: None
    # the last reading of this thread's CPU time (ns), and when that was (ns, monotonic)
    _cpu_ns: int = attrs.field(init=False, default=0)
    _cpu_read_ns: int = attrs.field(init=False, default=-CPU_READING_NS)

    def run(self, flow_id: str, instance: str, perform: Callable[[], Result], activity: Activity) -> Result:
        """Return what `perform` returns, an activity of the task at `instance`."""
        began = self.record.begin(instance, activity)
        if began - self._cpu_read_ns > CPU_READING_NS:
            self._cpu_ns, self._cpu_read_ns = time.thread_time_ns(), began
        try:
            return perform()
        finally:
            self.record.end()
            # compare wall time first: reading it is cheap, though on a busy machine it proves little
            if time.monotonic_ns() - began > SLOW_NS and time.thread_time_ns() - self._cpu_ns > SLOW_NS:
                self._on_slow(flow_id)
