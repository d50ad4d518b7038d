"""Metrics of a process: plain integers where it works, turned into the text of Prometheus when that is asked for.

That has two steps. `snapshot` copies the values, on the event loop, in some microseconds a series; `render` makes a
text of the copies, in milliseconds, on any thread. A counter of `prometheus_client` would cost 0.6 µs an increment.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from flowhook.process.metric_table import COUNTER, METRICS, Metric


@functools.cache
def registry() -> CollectorRegistry:
    """Return the registry of this process, which includes the `process_*` and `python_gc_*` metrics."""
    metrics = CollectorRegistry()
    ProcessCollector(registry=metrics)
    GCCollector(registry=metrics)
    return metrics


class Histogram:
    """Counts observations by bucket; `metric` has the bounds. A value below 0, of a clock that was set, counts as 0."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, metric: str) -> None:
        self.bounds = METRICS[metric].bounds
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        if value > 0:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.total += value
        else:
            self.counts[0] += 1

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        bounds = (*map(str, self.bounds), "+Inf")
        count = 0
        for bound, count in zip(bounds, accumulate(self.counts), strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": bound}, count)
        yield Sample(f"{name}_count", labels, count)
        yield Sample(f"{name}_sum", labels, self.total)

    def copy(self) -> Histogram:
        copied = object.__new__(Histogram)
        copied.bounds, copied.counts, copied.total = self.bounds, self.counts.copy(), self.total
        return copied


Value = float | Histogram
# values by labels, in the order of the table; or one value of a metric without labels
Reading = Value | Iterable[tuple[tuple[str, ...], Value]]


class Family(MetricFamily):
    """The values of a metric at a moment; its samples are made when they are asked for."""

    def __init__(self, metric: Metric, reading: Reading) -> None:
        super().__init__(metric.name.removesuffix("_total"), metric.help, metric.kind)
        values = [((), reading)] if isinstance(reading, int | float | Histogram) else reading
        self._labels = metric.labels
        self._values = [(labels, v.copy() if isinstance(v, Histogram) else v) for labels, v in values]

    @property
    def samples(self) -> list[Sample]:
        return list(self._samples())

    @samples.setter
    def samples(self, _value: list[Sample]) -> None:
        """Ignore the list that the constructor of the base class sets."""

    def _samples(self) -> Iterator[Sample]:
        for values, value in self._values:
            labels = dict(zip(self._labels, values, strict=True))
            if isinstance(value, Histogram):
                yield from value.samples(self.name, labels)
            else:
                yield Sample(f"{self.name}_total" if self.type == COUNTER else self.name, labels, value)


class _Readings(Collector):
    def __init__(self, readings: Mapping[str, Callable[[], Reading]]) -> None:
        self._readings = [(METRICS[name], read) for name, read in readings.items()]

    def describe(self) -> Iterator[MetricFamily]:
        return (Family(metric, ()) for metric, _ in self._readings)

    def collect(self) -> Iterator[MetricFamily]:
        return (Family(metric, read()) for metric, read in self._readings)


def expose(metrics: CollectorRegistry, readings: Mapping[str, Callable[[], Reading]]) -> Callable[[], None]:
    """Add metrics of the table whose values are read when they are collected; the result removes them again."""
    collector = _Readings(readings)
    metrics.register(collector)
    return functools.partial(metrics.unregister, collector)


def render(metrics: CollectorRegistry | None = None) -> bytes:
    """Return all metrics of a registry, by default this process's, in the Prometheus text format."""
    return generate_latest(registry() if metrics is None else metrics)
