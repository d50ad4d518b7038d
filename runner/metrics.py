"""Metrics of a runner: plain integers while it works; see `flowhook.process.metric_table`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sized
from typing import Final

import attrs
from prometheus_client import CollectorRegistry

from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram, expose

MAX_FUNCTIONS: Final = 200  # functions whose calls are counted apart


@attrs.define(eq=False, repr=False)
class RunnerMetrics:
    """All counts of a runner."""

    attempts: Counter[str] = attrs.field(init=False, factory=Counter)  # that ended, by outcome
    executions: Sized = attrs.field(init=False, default=())  # those that are worked on
    kills: int = attrs.field(init=False, default=0)  # processes that were killed because of an expression or a call
    _calls: dict[tuple[str, str], Histogram] = attrs.field(init=False, factory=dict)

    def called(self, function: str, outcome: str, seconds: float) -> None:
        """Count a call of a function."""
        seen = self._calls.get((function, outcome))
        if seen is None:
            key = (function if len(self._calls) < MAX_FUNCTIONS else OTHER, outcome)
            seen = self._calls.setdefault(key, Histogram("flowhook_call_duration_seconds"))
        seen.observe(seconds)

    def expose(self, registry: CollectorRegistry) -> None:
        expose(
            registry,
            {
                "flowhook_attempts_total": lambda: [((outcome,), number) for outcome, number in self.attempts.items()],
                "flowhook_attempts_running": lambda: len(self.executions),
                "flowhook_call_duration_seconds": lambda: list(self._calls.items()),
                "flowhook_evaluation_kills_total": lambda: self.kills,
            },
        )


METRICS: Final = RunnerMetrics()  # of this process
