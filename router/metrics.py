"""Prometheus metrics of the router: counters on the hot path, gauges that are read on scrape."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from flowhook.model import Status


class RouterMetrics:
    """The router's metrics, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("flowhook_router_events", "Events by result.", ["result"], registry=registry)
        self.accepted = self.events.labels("accepted")
        self.duplicate = self.events.labels("duplicate")
        executions = Counter(
            "flowhook_router_executions", "Executions that ended, by status.", ["status"], registry=registry
        )
        self._ended = {status: executions.labels(status.value) for status in Status if status.ended}
        self.leases_lost = Counter(
            "flowhook_router_leases_lost", "Leases that were lost or released.", registry=registry
        )
        self._due = Counter("flowhook_router_scheduled", "Scheduled starts by result.", ["result"], registry=registry)
        self.scheduled = self._due.labels("started")
        emitted = Counter(
            "flowhook_router_emitted", "Events that flows emitted, by kind of receiver.", ["result"], registry=registry
        )
        self._heard, self._unheard = emitted.labels("heard"), emitted.labels("unheard")
        lifecycle = Counter("flowhook_router_lifecycle", "Lifecycle events by result.", ["result"], registry=registry)
        self._lifecycle_events = {result: lifecycle.labels(result) for result in ("heard", "unheard", "dropped")}
        self.delivered = Counter(
            "flowhook_router_deliveries",
            "Events and ends of executions that were delivered to waiting executions.",
            registry=registry,
        )
        self._registry = registry

    def ended(self, statuses: Iterable[Status]) -> None:
        for status, number in Counts(statuses).items():
            self._ended[status].inc(number)

    def rejected(self, reason: str) -> None:
        self.events.labels(reason.lower()).inc()

    def not_scheduled(self, reason: str) -> None:
        self._due.labels(reason.lower()).inc()

    def emitted(self, *, heard: bool) -> None:
        """Count an emitted event; `heard`: whether any flow wants it."""
        (self._heard if heard else self._unheard).inc()

    def lifecycle_event_published(self, receivers: int | None) -> None:
        """Count a lifecycle event by its number of receivers; None: a flow had no room for it for too long."""
        self._lifecycle_events["dropped" if receivers is None else "heard" if receivers else "unheard"].inc()

    def observe(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read when metrics are scraped."""
        Gauge(name, documentation, registry=self._registry).set_function(read)
