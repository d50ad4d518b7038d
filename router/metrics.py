"""Metrics of the router: plain integers where it works, by flow; see `flowhook.process.metric_table`."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from flowhook.model import Status
from flowhook.process.busiest import Busiest
from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram, Reading, expose

MAX_TIMES: Final = 4096  # times of acceptance that are kept
PRECISION: Final = 0.01  # distance between two of them, as a share of their age
TIMES_SECONDS: Final = 0.001  # between two of them, at the least
MAX_REASONS: Final = 5  # of rejections of a flow, so that the metrics of a router fit into a report of 10,000 lines
UNKNOWN: Final = "_unknown"  # label of the flow of events that name none


class AcceptanceTimes:
    """When executions were accepted, by number, from a bounded number of samples: the numbers ascend with time.

    The time of those before the last ones is known less precisely, to some per cent of their age.
    """

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._times: list[float] = []

    def add(self, seq: int, now: float) -> None:
        """Note that an execution is accepted now; `now` is monotonic, in seconds."""
        times = self._times
        if times and now - times[-1] < TIMES_SECONDS:
            return
        self._seqs.append(seq)
        times.append(now)
        if len(times) > MAX_TIMES:
            self._thin(now)

    def _thin(self, now: float) -> None:
        """Leave samples whose distances are a share of their age: some 2,000 for a month."""
        kept: list[tuple[int, float]] = []
        later = now
        for seq, at in zip(reversed(self._seqs), reversed(self._times), strict=True):
            if later - at >= PRECISION * (now - at):
                kept.append((seq, at))
                later = at
        first = self._seqs[0], self._times[0]
        kept += [first] if kept[-1] != first else []
        self._seqs = [seq for seq, _ in reversed(kept)]
        self._times = [at for _, at in reversed(kept)]

    def of(self, seq: int) -> float | None:
        """Return when an execution was accepted; None: before all that are known."""
        place = bisect_right(self._seqs, seq)
        return self._times[place - 1] if place else None


class FlowCounts:
    """What is counted of a flow."""

    __slots__ = ("accepted", "duplicates", "ended", "last", "rejected", "total", "waited")

    def __init__(self) -> None:
        self.accepted = self.duplicates = 0
        self.last = 0.0  # Unix time of the latest event; 0: there was none
        self.rejected: Counter[str] = Counter()  # by reason
        self.ended: Counter[str] = Counter()  # by status
        self.waited = Histogram("flowhook_queue_wait_seconds")
        self.total = Histogram("flowhook_event_end_to_end_seconds")

    def activity(self) -> int:
        return self.accepted + self.duplicates + self.ended.total() + self.rejected.total()


class RouterMetrics:
    """The router's metrics, registered in `registry`; `clock` is monotonic, in seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self.flows = Busiest(FlowCounts)
        self.times = AcceptanceTimes()
        self.leases_lost = self.delivered = 0
        self.removed = Counter(age=0, size=0)  # executions that retention removed, by why
        self._granted = 0
        self.replays, self._due, self._emitted, self._lifecycle = (Counter[str]() for _ in range(4))
        self._rejected: Counter[str] = Counter()  # events that name no flow
        self.expose(
            {
                "flowhook_events_accepted_total": lambda: self._of_flows("accepted"),
                "flowhook_events_duplicate_total": lambda: self._of_flows("duplicates"),
                "flowhook_events_rejected_total": self._all_rejected,
                "flowhook_last_event_timestamp_seconds": lambda: [each for each in self._of_flows("last") if each[1]],
                "flowhook_executions_total": lambda: [
                    ((flow, status), number)
                    for flow, each in self.flows.items()
                    for status, number in each.ended.items()
                ],
                "flowhook_queue_wait_seconds": lambda: self._of_flows("waited"),
                "flowhook_event_end_to_end_seconds": lambda: self._of_flows("total"),
                "flowhook_leases_granted_total": lambda: self._granted,
                "flowhook_redeliveries_total": lambda: self.leases_lost,
                "flowhook_replays_total": lambda: by_label(self.replays),
                "flowhook_retention_deleted_total": lambda: by_label(self.removed),
                "flowhook_router_deliveries_total": lambda: self.delivered,
                "flowhook_router_scheduled_total": lambda: by_label(self._due),
                "flowhook_router_emitted_total": lambda: by_label(self._emitted),
                "flowhook_router_lifecycle_total": lambda: by_label(self._lifecycle),
            }
        )

    def expose(self, readings: Mapping[str, Callable[[], Reading]]) -> None:
        """Add metrics whose values are read when metrics are collected."""
        expose(self._registry, readings)

    def received(self, flow_id: str, now: float, *, duplicate: bool) -> None:
        """Count an event that is stored; `now` is Unix time in seconds."""
        counts = self.flows.of(flow_id)
        if duplicate:
            counts.duplicates += 1
        else:
            counts.accepted += 1
            counts.last = now

    def rejected(self, flow_id: str | None, reason: str) -> None:
        """Count an event that is not stored; None: it names no flow that there is."""
        counts = self._rejected if flow_id is None else self.flows.of(flow_id).rejected
        counts[reason if reason in counts or len(counts) < MAX_REASONS else OTHER] += 1

    def assigned(self, executions: Iterable[tuple[int, str]], number: int) -> list[tuple[str, float]]:
        """Count assignments, `number` in all; `executions` and their flows are those that are assigned first.

        Returns the flows of these, and how long each had waited, in seconds, as far as that is known.
        """
        self._granted += number
        now, of, times = self._clock(), self.flows.of, self.times
        waits: list[tuple[str, float]] = []
        for seq, flow_id in executions:
            accepted = times.of(seq)
            if accepted is not None:
                of(flow_id).waited.observe(now - accepted)
                waits.append((flow_id, now - accepted))
        return waits

    def ended(self, ends: Sequence[tuple[int, str, Status]]) -> list[float | None]:
        """Count executions that ended: their numbers, flows and statuses.

        Returns how long after its acceptance each ended, in seconds; None: that is not known.
        """
        now, of, times = self._clock(), self.flows.of, self.times
        durations: list[float | None] = []
        for seq, flow_id, status in ends:
            counts = of(flow_id)
            counts.ended[status.value] += 1
            accepted = times.of(seq)
            durations.append(None if accepted is None else now - accepted)
            if accepted is not None:
                counts.total.observe(now - accepted)
        return durations

    def scheduled(self, result: str = "started") -> None:
        """Count a flow that was due: it was started, or the reason why not."""
        self._due[result.lower()] += 1

    def emitted(self, *, heard: bool) -> None:
        """Count an emitted event; `heard`: whether any flow wants it."""
        self._emitted["heard" if heard else "unheard"] += 1

    def lifecycle_event_published(self, receivers: int | None) -> None:
        """Count a lifecycle event by its number of receivers; None: a flow had no room for it for too long."""
        self._lifecycle["dropped" if receivers is None else "heard" if receivers else "unheard"] += 1

    def of_flows(self, counts: Mapping[str, int]) -> list[tuple[tuple[str], float]]:
        """Return a reading of counts by flow, with those of flows without a place together."""
        found = Counter[str]()
        for flow_id, number in counts.items():
            found[flow_id if flow_id in self.flows else OTHER] += number
        return by_label(found)

    def _of_flows(self, name: str) -> list[tuple[tuple[str], float | Histogram]]:
        return [((flow,), getattr(counts, name)) for flow, counts in self.flows.items()]

    def _all_rejected(self) -> list[tuple[tuple[str, str], float]]:
        of_flows = [(flow, each.rejected) for flow, each in self.flows.items()]
        found = [*of_flows, (UNKNOWN, self._rejected)]
        return [((flow, reason), number) for flow, counts in found for reason, number in counts.items()]


def by_label(counts: Mapping[str, float]) -> list[tuple[tuple[str], float]]:
    """Return a reading of counts by the one label of a metric."""
    return [((label,), number) for label, number in counts.items()]
