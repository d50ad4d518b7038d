"""Prometheus metrics of a runner."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from flowhook.metrics import registry

EXECUTIONS: Final = Counter(
    "flowhook_executions",
    "Attempts at executions that this runner ended, by outcome: completed, faulted, released, abandoned.",
    ["outcome"],
    registry=registry(),
)
RUNNING: Final = Gauge("flowhook_executions_running", "Executions in hand.", registry=registry())
CALLS: Final = Histogram(
    "flowhook_call_seconds",
    "Duration of calls, by function and outcome: ok, error.",
    ["function", "outcome"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
    registry=registry(),
)
EVALUATION_KILLS: Final = Counter(
    "flowhook_evaluation_kills",
    "Processes killed because one expression took too long or too much memory, or a call blocked them.",
    registry=registry(),
)
