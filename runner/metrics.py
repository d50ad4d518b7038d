"""Prometheus metrics of a runner."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from flowhook.process.metrics import registry

EXECUTIONS: Final = Counter(
    "flowhook_executions",
    "Attempts at executions that ended on this runner, by outcome: completed, faulted, parked, released, abandoned.",
    ["outcome"],
    registry=registry(),
)
RUNNING: Final = Gauge(
    "flowhook_executions_running",
    "Executions that this runner works on, without those that are parked.",
    registry=registry(),
)
CALLS: Final = Histogram(
    "flowhook_call_seconds",
    "Duration of calls in seconds, by function and outcome: ok, error.",
    ["function", "outcome"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
    registry=registry(),
)
EVALUATION_KILLS: Final = Counter(
    "flowhook_evaluation_kills",
    "Processes killed because an expression exceeded its time or memory, or a call blocked the event loop.",
    registry=registry(),
)
