from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, generate_latest

from edge.metrics import EdgeMetrics
from flowhook.process.metric_table import MAX_FLOWS

LABELS = 'http_request_method="POST",http_response_status_code="%s",http_route="/hook/{flow}"'


def test_what_was_counted_is_shown_to_prometheus():
    counts = EdgeMetrics()
    for seconds in (0.003, 60.0):
        counts.answered("POST", "/hook/{flow}", 202, "", seconds)
    counts.answered("POST", "/hook/{flow}", 401, "UNAUTHENTICATED", 0.001, size=1024)
    counts.answered("POST", "/hook/{flow}", 202, "", 0.001, size=1025)
    counts.latency.observe(0.003)
    counts.latency.observe(60.0)
    counts.batches.observe(16)
    counts.rejected("shop", "UNAUTHENTICATED", filtered=False)
    counts.rejected("shop", "FILTERED", filtered=True)
    counts.unknown["FLOW_NOT_FOUND"] += 3
    counts.expose(registry := CollectorRegistry(), {"flowhook_edge_connections": lambda: 3})

    text = generate_latest(registry).decode()

    name = "http_server_request_duration_seconds"
    for line in (
        f'{name}_count{{error_type="",{LABELS % 202}}} 3.0',
        f'{name}_count{{error_type="UNAUTHENTICATED",{LABELS % 401}}} 1.0',
        'http_server_request_body_size_bytes_bucket{le="256.0"} 0.0',
        'http_server_request_body_size_bytes_bucket{le="1024.0"} 1.0',
        'http_server_request_body_size_bytes_bucket{le="4096.0"} 2.0',
        "http_server_request_body_size_bytes_sum 2049.0",
        'flowhook_accept_duration_seconds_bucket{le="0.0025"} 0.0',
        'flowhook_accept_duration_seconds_bucket{le="0.005"} 1.0',
        'flowhook_accept_duration_seconds_bucket{le="10.0"} 1.0',
        'flowhook_accept_duration_seconds_bucket{le="+Inf"} 2.0',
        "flowhook_accept_duration_seconds_count 2.0",
        'flowhook_edge_batch_events_bucket{le="16.0"} 1.0',
        "flowhook_edge_connections 3.0",
        'flowhook_events_rejected_total{flow="shop",reason="UNAUTHENTICATED"} 1.0',
        'flowhook_events_rejected_total{flow="_unknown",reason="FLOW_NOT_FOUND"} 3.0',
        'flowhook_events_filtered_total{flow="shop"} 1.0',
    ):
        assert line in text.splitlines(), line


def test_responses_beyond_a_limit_are_counted_together():
    counts = EdgeMetrics()
    for status in range(200, 600):
        for method in ("POST", f"METHOD{status}"):
            counts.answered(method, "/hook/{flow}", status, "", 0.1)
    counts.expose(registry := CollectorRegistry(), {})

    lines = [line for line in generate_latest(registry).decode().splitlines() if "duration_seconds_count{" in line]

    assert len(lines) == 101
    assert sum(float(line.split()[-1]) for line in lines) == 800
    assert not any("METHOD" in line for line in lines)


def test_a_flow_that_is_refused_the_most_is_shown_although_others_came_first():
    counts = EdgeMetrics()
    counts.expose(registry := CollectorRegistry(), {})
    for number in range(MAX_FLOWS):
        counts.rejected(f"flow-{number}", "UNAUTHENTICATED", filtered=False)
    for _ in range(2):
        for _ in range(100):
            counts.rejected("shop", "UNAUTHENTICATED", filtered=False)
        counts.flows._ranked = -math.inf  # long ago
        text = generate_latest(registry).decode()
    assert 'flowhook_events_rejected_total{flow="shop",reason="UNAUTHENTICATED"} 100.0' in text
