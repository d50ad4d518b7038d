"""The metrics of an edge: plain integers on the hot path, converted to Prometheus metrics when they are collected.

`prometheus_client` takes a lock for each increment; at ten thousand requests a second that is worth avoiding.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

# Upper bounds in seconds.
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)  # upper bounds in events


class Histogram:
    """Counts observations by bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound, as Prometheus requires."""
        names = (*map(str, self.bounds), "+Inf")
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


@attrs.define(eq=False, repr=False)
class EdgeMetrics(Collector):
    """All counters of an edge."""

    # number of responses by status and reason (empty when the request was not refused)
    responses: dict[tuple[int, str], int] = attrs.field(factory=dict)
    incomplete: int = 0  # requests whose sender disconnected before they were complete, so that they got no response
    cache_hits: int = 0  # flow lookups answered by the cache
    cache_misses: int = 0  # flow lookups sent to the router
    # seconds from a complete request to the router's result
    latency: Histogram = attrs.field(factory=lambda: Histogram(LATENCY_BUCKETS))
    batches: Histogram = attrs.field(factory=lambda: Histogram(BATCH_BUCKETS))  # events per call to the router
    retries: int = 0  # calls to the router that failed and were retried
    streamed_bytes: int = 0  # bytes of bodies that were streamed rather than held in memory as a whole
    unreported: int = 0  # refused requests that could not be reported to the router
    _gauges: list[tuple[str, str, Callable[[], float]]] = attrs.field(init=False, factory=list)

    def answered(self, status: int, reason: str) -> None:
        key = (status, reason)
        self.responses[key] = self.responses.get(key, 0) + 1

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Register a gauge; `value` is called whenever metrics are collected."""
        self._gauges.append((name, text, value))

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("flowhook_edge_requests", "Answers to senders.", labels=("status", "reason"))
        for (status, reason), count in sorted(self.responses.items()):
            requests.add_metric((str(status), reason), count)
        yield requests
        lookups = CounterMetricFamily("flowhook_edge_flow_lookups", "Lookups of flows.", labels=("result",))
        lookups.add_metric(("hit",), self.cache_hits)
        lookups.add_metric(("miss",), self.cache_misses)
        yield lookups
        for name, text, count in (
            (
                "flowhook_edge_incomplete_requests",
                "Requests whose sender went away before they were complete.",
                self.incomplete,
            ),
            ("flowhook_edge_ingest_retries", "Calls to the router that were made again.", self.retries),
            (
                "flowhook_edge_unreported_rejections",
                "Refused requests that are missing from the log of rejections.",
                self.unreported,
            ),
            (
                "flowhook_edge_streamed_bytes",
                "Bytes of large bodies that went on to the router as they came.",
                self.streamed_bytes,
            ),
        ):
            yield CounterMetricFamily(name, text, value=count)
        for name, text, seen in (
            ("flowhook_edge_accept_seconds", "From a whole request to the router's word on it.", self.latency),
            ("flowhook_edge_batch_events", "Events per call to the router.", self.batches),
        ):
            yield HistogramMetricFamily(name, text, buckets=seen.buckets(), sum_value=seen.total)
        for name, text, value in self._gauges:
            yield GaugeMetricFamily(name, text, value=value())
