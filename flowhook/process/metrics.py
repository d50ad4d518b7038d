"""Metrics of a process: plain integers where it works, turned into the text of Prometheus when that is asked for.

That has two steps. The values are copied on the event loop, in a microsecond a series; a thread makes a text of the
copies, which takes milliseconds. A counter of `prometheus_client` would cost 0.6 µs an increment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import platform
import re
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, Final

import attrs
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

import flowhook
from flowhook.process import server_certificates
from flowhook.process.metric_table import COUNTER, METRICS, Metric
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import until_tick

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LAG_SECONDS: Final = 2.0  # between two looks at how late the event loop is
RENDERED_SHARE: Final = 10  # a text is used again for so many times the CPU time that it took to render it
MAX_ACCEPTED: Final = 32  # types of an `Accept` header that are looked at
_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


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

    @property
    def count(self) -> int:
        return sum(self.counts)

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

    @classmethod
    def grouped(cls, metric: str, bounds: Sequence[float], numbers: Mapping[int, int], total: float) -> Histogram:
        """Return one of numbers by the position of their upper bound in `bounds`, which include those of the metric."""
        made = cls(metric)
        for bucket, number in numbers.items():
            place = bisect_left(made.bounds, bounds[bucket]) if bucket < len(bounds) else -1
            made.counts[place] += number
        made.total = total
        return made


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


@attrs.define(eq=False, repr=False)
class ExposedMetrics:
    """The metrics of a process as text: rendered on a thread, for a tenth of the time at most, however many ask."""

    registries: list[CollectorRegistry]
    _rendering: asyncio.Task[bytes] | None = attrs.field(init=False, default=None)
    _due: float = attrs.field(init=False, default=0.0)  # time from which the text is rendered anew

    async def text(self) -> bytes:
        """Return the text, in the text format of Prometheus."""
        now = asyncio.get_running_loop().time()
        if self._rendering is None or (self._rendering.done() and now >= self._due):
            self._rendering = asyncio.create_task(self._render(), name="render metrics")
        return await asyncio.shield(self._rendering)

    async def _render(self) -> bytes:
        families = [family for metrics in self.registries for family in metrics.collect()]
        text, seconds = await asyncio.to_thread(_rendered, families)
        self._due = asyncio.get_running_loop().time() + RENDERED_SHARE * seconds
        return text


def _rendered(families: Iterable[MetricFamily]) -> tuple[bytes, float]:
    """Return a text and the CPU time (s) that it took."""
    began = time.thread_time()
    collected: Any = SimpleNamespace(collect=lambda: families)  # a registry, as far as a text is made of one
    return generate_latest(collected), time.thread_time() - began


def in_openmetrics(text: bytes) -> bytes:
    """Return metrics in OpenMetrics that are in the text format of Prometheus, as `prometheus_client` writes it.

    Source: OpenMetrics 1.0.0: the name of a counter is that of its samples without `_total`; a unit ends the name.
    """
    lines = text.split(b"\n")
    for number, line in enumerate(lines):
        if line.startswith(b"# TYPE "):
            name, _, kind = line[7:].partition(b" ")
            if kind == b"counter":
                name = name.removesuffix(b"_total")
            lines[number] = b"# TYPE %b %b" % (name, b"unknown" if kind == b"untyped" else kind)
            help_ = lines[number - 1].partition(b" HELP ")[2].partition(b" ")[2]
            lines[number - 1] = b"# HELP %b %b" % (name, help_.replace(b'"', b'\\"'))
            unit = name.rpartition(b"_")[2]
            if unit in (b"seconds", b"bytes"):
                lines[number] += b"\n# UNIT %b %b" % (name, unit)
    return b"\n".join(lines) + b"# EOF\n"


def negotiated(accept: str, text: bytes) -> tuple[str, bytes]:
    """Return the type and the metrics in the format that the `Accept` header of a request prefers.

    Source: RFC 9110, section 12.5.1; what is not understood of it counts as not said.
    """
    quality = {"text/plain": 0.0, "application/openmetrics-text": 0.0}
    for each in accept.split(",", MAX_ACCEPTED)[:MAX_ACCEPTED]:
        media, *parameters = (part.strip().lower() for part in each.split(";"))
        if media in quality and not {"version=2.0.0"}.intersection(parameters):
            given = next((part[2:] for part in parameters if part.startswith("q=")), "1")
            quality[media] = max(quality[media], float(given) if _QUALITY.fullmatch(given) else 0.0)
    if quality["application/openmetrics-text"] > quality["text/plain"]:
        return OPENMETRICS_TYPE, in_openmetrics(text)
    return TEXT_TYPE, text


@contextlib.asynccontextmanager
async def process_metrics(
    process_state: ProcessState, metrics: CollectorRegistry | None = None
) -> AsyncIterator[ExposedMetrics]:
    """Let a process expose what is in a registry, by default its own, and these metrics, within the context."""
    exposed = ExposedMetrics([metrics or registry(), own := CollectorRegistry()])
    process_state.metrics = exposed.text
    lag = Histogram("flowhook_event_loop_lag_seconds")
    readings: dict[str, Callable[[], Reading]] = {
        "flowhook_ready": lambda: int(not process_state.lack()),
        "flowhook_warnings": lambda: [((kind,), 1) for kind in process_state.warnings],
        "flowhook_build_info": lambda: [((flowhook.__version__, platform.python_version()), 1)],
        "flowhook_event_loop_lag_seconds": lambda: lag,
        "flowhook_clock_skew_seconds": lambda: (
            [] if process_state.clock_skew is None else [((), process_state.clock_skew)]
        ),
        "flowhook_certificate_expiry_timestamp_seconds": server_certificates.expiries,
    }
    expose(own, {name: read for name, read in readings.items() if process_state.role in METRICS[name].roles})
    measuring = asyncio.create_task(_measure(lag), name="measure the lag of the event loop")
    try:
        yield exposed
    finally:
        measuring.cancel()


async def _measure(lag: Histogram) -> None:
    now = asyncio.get_running_loop().time
    while True:
        seconds = until_tick(LAG_SECONDS)
        due = now() + seconds
        await asyncio.sleep(seconds)
        lag.observe(now() - due)
