from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from edge.metrics import EdgeMetrics


def test_what_was_counted_is_shown_to_prometheus():
    counts = EdgeMetrics()
    counts.answered(202, "")
    counts.answered(202, "")
    counts.answered(401, "UNAUTHENTICATED")
    counts.latency.observe(0.003)
    counts.latency.observe(60.0)
    counts.batches.observe(16)
    counts.add_gauge("flowhook_edge_connections", "Open connections.", lambda: 3)
    registry = CollectorRegistry()
    registry.register(counts)

    text = generate_latest(registry).decode()

    for line in (
        'flowhook_edge_requests_total{reason="",status="202"} 2.0',
        'flowhook_edge_requests_total{reason="UNAUTHENTICATED",status="401"} 1.0',
        'flowhook_edge_accept_seconds_bucket{le="0.0025"} 0.0',
        'flowhook_edge_accept_seconds_bucket{le="0.005"} 1.0',
        'flowhook_edge_accept_seconds_bucket{le="10.0"} 1.0',
        'flowhook_edge_accept_seconds_bucket{le="+Inf"} 2.0',
        "flowhook_edge_accept_seconds_count 2.0",
        'flowhook_edge_batch_events_bucket{le="16.0"} 1.0',
        "flowhook_edge_connections 3.0",
    ):
        assert line in text.splitlines(), line
