"""The metrics of an edge: plain integers while it works; see `flowhook.process.metric_table`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs
from prometheus_client import CollectorRegistry

from flowhook.process.busiest import Busiest
from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram, expose

MAX_RESPONSES: Final = 100  # combinations of labels of responses; flows choose statuses, so there may be more
SIZES: Final = tuple(float(1 << exponent) for exponent in range(64))  # upper bounds by which bodies are counted
FILTERED: Final = ""  # in place of a reason: the filter of the flow dropped it
UNKNOWN: Final = "_unknown"  # label of the flow of requests for no flow
# Source: OpenTelemetry, "Semantic conventions for HTTP metrics": other methods are `_OTHER`
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


@attrs.define(eq=False, repr=False)
class EdgeMetrics:
    """All counts of an edge."""

    incomplete: int = 0  # requests whose sender disconnected before they were complete, so that they got no response
    cache_hits: int = 0  # flow lookups answered by the cache
    cache_misses: int = 0  # flow lookups sent to the router
    # seconds from a complete request to the router's result
    latency: Histogram = attrs.field(factory=lambda: Histogram("flowhook_accept_duration_seconds"))
    # events per call to the router
    batches: Histogram = attrs.field(factory=lambda: Histogram("flowhook_edge_batch_events"))
    retries: int = 0  # calls to the router that failed and were retried
    streamed_bytes: int = 0  # bytes of bodies that were streamed rather than held in memory as a whole
    unreported: int = 0  # refused requests that could not be reported to the router
    checks: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)  # of credentials: scheme, result and key
    handshakes: Counter[tuple[str, str]] = attrs.field(factory=Counter)  # provider and result
    flows: Busiest[Counter[str]] = attrs.field(factory=lambda: Busiest(Counter[str]))  # refusals by reason, or FILTERED
    unknown: Counter[str] = attrs.field(factory=Counter)  # requests for no flow, by reason
    # durations (s) of requests by method, route, status and reason (empty when the request was not refused)
    _responses: dict[tuple[str, str, int, str], Histogram] = attrs.field(init=False, factory=dict)
    _sizes: list[int] = attrs.field(init=False, factory=lambda: [0] * len(SIZES))  # numbers of bodies
    _size: int = attrs.field(init=False, default=0)  # of all of them, in bytes

    def answered(self, method: str, route: str, status: int, reason: str, seconds: float, *, size: int = 0) -> None:
        """Count a response; `route` is a pattern of paths, `size` that of the body as far as it was received."""
        seen = self._responses.get((method, route, status, reason))
        if seen is None:
            seen = self._new_response(method if method in _METHODS else "_OTHER", route, status, reason)
        seen.counts[bisect_left(seen.bounds, seconds)] += 1  # as `observe` does, which costs as much again
        seen.total += seconds
        if size:
            self._sizes[(size - 1).bit_length()] += 1
            self._size += size

    def _new_response(self, method: str, route: str, status: int, reason: str) -> Histogram:
        key = (method, route, status, reason)
        if len(self._responses) >= MAX_RESPONSES and key not in self._responses:
            key = ("_OTHER", "", 0, OTHER)
        return self._responses.setdefault(key, Histogram("http_server_request_duration_seconds"))

    def shook_hands(self, provider: str, result: str) -> None:
        """Count a handshake; `provider`: kinds of `auth` of the flow."""
        known = len(self.handshakes) < MAX_RESPONSES or (provider, result) in self.handshakes
        self.handshakes[provider if known else OTHER, result] += 1

    def rejected(self, flow_id: str, reason: str, *, filtered: bool) -> None:
        """Count a request that was refused, or dropped by the filter of its flow."""
        self.flows.of(flow_id)[FILTERED if filtered else reason] += 1

    def expose(self, registry: CollectorRegistry, gauges: Mapping[str, Callable[[], float]]) -> Callable[[], None]:
        """Add the metrics to a registry; the result removes them again."""
        return expose(
            registry,
            {
                "http_server_request_duration_seconds": lambda: [
                    ((method, route, str(status or ""), reason), seen)
                    for (method, route, status, reason), seen in self._responses.items()
                ],
                "http_server_request_body_size_bytes": lambda: Histogram.grouped(
                    "http_server_request_body_size_bytes", SIZES, dict(enumerate(self._sizes)), self._size
                ),
                "flowhook_accept_duration_seconds": lambda: self.latency,
                "flowhook_events_rejected_total": lambda: list(self._rejected()),
                "flowhook_events_filtered_total": lambda: [
                    ((flow,), counts[FILTERED]) for flow, counts in self.flows.items() if counts[FILTERED]
                ],
                "flowhook_signature_checks_total": lambda: list(self.checks.items()),
                "flowhook_handshakes_total": lambda: list(self.handshakes.items()),
                "flowhook_edge_incomplete_requests_total": lambda: self.incomplete,
                "flowhook_edge_batch_events": lambda: self.batches,
                "flowhook_edge_unreported_rejections_total": lambda: self.unreported,
                "flowhook_edge_ingest_retries_total": lambda: self.retries,
                "flowhook_edge_flow_lookups_total": lambda: [
                    (("hit",), self.cache_hits),
                    (("miss",), self.cache_misses),
                ],
                "flowhook_edge_streamed_bytes_total": lambda: self.streamed_bytes,
                **gauges,
            },
        )

    def _rejected(self) -> Iterator[tuple[tuple[str, str], float]]:
        self.flows.rank(time.monotonic())
        for flow, counts in self.flows.items():
            for reason, number in counts.items():
                if reason != FILTERED:
                    yield (flow, reason), number
        for reason, number in self.unknown.items():
            yield (UNKNOWN, reason), number
