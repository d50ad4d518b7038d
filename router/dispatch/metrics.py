"""Metrics of the router: plain integers where it works; see `flowhook.process.metric_table`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from flowhook.model import Status
from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram, Reading, Value, expose
from router.dispatch.flow_statistics import FlowCounts, FlowStatisticsCounter
from router.storage.series import BOUNDS

MAX_REASONS: Final = 5  # of rejections of a flow, so that the metrics of a router fit into a report of 10,000 lines
UNKNOWN: Final = "_unknown"  # label of the flow of events that name none
BY_LABEL: Final = (  # metrics that are counted where it happens, by their one label
    "flowhook_replays_total",
    "flowhook_retention_deleted_total",
    "flowhook_router_scheduled_total",
    "flowhook_router_lifecycle_total",
    "flowhook_router_emitted_total",
)
ENDS: Final = (Status.COMPLETED.value, Status.FAULTED.value, Status.CANCELLED.value)


class RouterMetrics:
    """The router's metrics, registered in `registry`: what is counted here, and what `statistics` counts by flow."""

    def __init__(self, registry: CollectorRegistry, statistics: FlowStatisticsCounter) -> None:
        self._registry = registry
        self._statistics = statistics
        self.granted = self.leases_lost = self.delivered = 0
        self.by_label = {name: Counter[str]() for name in BY_LABEL}
        self.by_label["flowhook_retention_deleted_total"].update(age=0, size=0)
        self._rejected: Counter[str] = Counter()  # events that name no flow
        self.expose(
            {
                "flowhook_events_accepted_total": lambda: self._of_flows(lambda each: each.counted.received),
                "flowhook_events_duplicate_total": lambda: self._of_flows(lambda each: each.duplicates),
                "flowhook_events_rejected_total": self._all_rejected,
                "flowhook_last_event_timestamp_seconds": lambda: [
                    (label, at) for label, at in self._of_flows(lambda each: each.counted.received_at) if at
                ],
                "flowhook_executions_total": lambda: [
                    ((flow, status), number)
                    for flow, each in self._flows()
                    for status in ENDS
                    if (number := getattr(each.counted, status))
                ],
                "flowhook_queue_wait_seconds": lambda: self._of_flows(_waits),
                "flowhook_event_end_to_end_seconds": lambda: self._of_flows(_latencies),
                "flowhook_leases_granted_total": lambda: self.granted,
                "flowhook_redeliveries_total": lambda: self.leases_lost,
                "flowhook_router_deliveries_total": lambda: self.delivered,
                **{name: partial(by_label, counts) for name, counts in self.by_label.items()},
            }
        )

    def expose(self, readings: Mapping[str, Callable[[], Reading]]) -> None:
        """Add metrics whose values are read when metrics are collected."""
        expose(self._registry, readings)

    def repeated(self, flow_id: str) -> None:
        """Count an event that was stored before."""
        self._statistics.busiest.of(flow_id).duplicates += 1

    def rejected(self, flow_id: str | None, reason: str) -> None:
        """Count an event that is not stored; None: it names no flow that there is."""
        counts = self._rejected if flow_id is None else self._statistics.busiest.of(flow_id).rejected
        counts[reason if reason in counts or len(counts) < MAX_REASONS else OTHER] += 1

    def of_flows(self, counts: Mapping[str, int]) -> list[tuple[tuple[str], float]]:
        """Return a reading of counts by flow, with those of flows without a place together."""
        found = Counter[str]()
        for flow_id, number in counts.items():
            found[flow_id if flow_id in self._statistics.busiest else OTHER] += number
        return by_label(found)

    def _flows(self) -> Iterator[tuple[str, FlowCounts]]:
        self._statistics.fold()
        return self._statistics.busiest.items()

    def _of_flows(self, read: Callable[[FlowCounts], Value]) -> list[tuple[tuple[str], Value]]:
        return [((flow,), read(counts)) for flow, counts in self._flows()]

    def _all_rejected(self) -> list[tuple[tuple[str, str], float]]:
        found = [*((flow, each.rejected) for flow, each in self._flows()), (UNKNOWN, self._rejected)]
        return [((flow, reason), number) for flow, counts in found for reason, number in counts.items()]


def _waits(counts: FlowCounts) -> Histogram:
    counted = counts.counted
    return Histogram.grouped("flowhook_queue_wait_seconds", BOUNDS, counted.waits, counted.waited)


def _latencies(counts: FlowCounts) -> Histogram:
    counted = counts.counted
    return Histogram.grouped("flowhook_event_end_to_end_seconds", BOUNDS, counted.latencies, counted.lasted)


def by_label(counts: Mapping[str, float]) -> list[tuple[tuple[str], float]]:
    """Return a reading of counts by the one label of a metric."""
    return [((label,), number) for label, number in counts.items()]
