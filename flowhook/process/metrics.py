"""Prometheus metrics: one registry per process, sent to the router in each report and exposed by the admin process.

Metrics are created at import time, beside the code that counts: `Counter(..., registry=registry())`.
"""

from __future__ import annotations

import functools

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, disable_created_metrics, generate_latest


@functools.cache
def registry() -> CollectorRegistry:
    """Return the registry of this process, which includes the `process_*` and `python_gc_*` metrics."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that no dashboard reads
    metrics = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


def render(metrics: CollectorRegistry | None = None) -> bytes:
    """Return all metrics of a registry, by default this process's, in the Prometheus text format."""
    return generate_latest(registry() if metrics is None else metrics)
