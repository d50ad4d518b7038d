"""Prometheus metrics: one registry a process, told to the router with each report and shown by the admin process.

Metrics are made at import time beside the code that counts: `Counter(..., registry=registry())`.
"""

from __future__ import annotations

import functools

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, disable_created_metrics, generate_latest


@functools.cache
def registry() -> CollectorRegistry:
    """Return the registry of this process, which has `process_*` and `python_gc_*` from the start."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that no dashboard reads
    metrics = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


def render(metrics: CollectorRegistry | None = None) -> bytes:
    """Return all metrics of a registry, by default this process's, in the Prometheus text format.

    Source: Prometheus, "Exposition formats", text-based format.
    """
    return generate_latest(registry() if metrics is None else metrics)
