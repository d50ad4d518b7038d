"""Merges the metrics of all processes into one Prometheus text, with the labels `process` and `role`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from admin.health import is_ready
from flowhook import logs
from flowhook.client import ProcessInfo

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

log = logs.get_logger(__name__)


def merge_metrics(processes: Sequence[ProcessInfo]) -> bytes:
    """Return one text with each metric family once, and `flowhook_up` for each process.

    A report that is not valid Prometheus text is left out, so that the other processes still show.

    Source: Prometheus, "Exposition formats": all lines of a metric must be one group.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(processes))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, processes: Sequence[ProcessInfo]) -> None:
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("flowhook_up", "1 while the process is ready.", labels=("process", "role"))
        families: dict[str, Metric] = {}
        for process in self._processes:
            up.add_metric((process.name, process.role), float(is_ready(process)))
            for family in _families(process):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                if merged.type != family.type:
                    continue
                for sample in family.samples:
                    labels = {**sample.labels, "process": process.name, "role": process.role}
                    merged.add_sample(sample.name, labels, sample.value)
        yield up
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        return ()


def _families(process: ProcessInfo) -> Iterator[Metric]:
    try:
        yield from list(text_string_to_metric_families(process.metrics.decode("utf-8", "replace")))
    except ValueError:
        log.warning("invalid metrics", reporter=process.name)
