from prometheus_client import CollectorRegistry

from flowhook.process.metrics import render
from runner.metrics import RunnerMetrics


def test_attempts_and_calls_are_counted_by_outcome():
    counts, registry = RunnerMetrics(), CollectorRegistry()
    counts.expose(registry)
    for outcome in ("completed", "faulted", "completed"):
        counts.attempts[outcome] += 1
    counts.called("http", "ok", 0.2)
    lines = render(registry).splitlines()
    assert b'flowhook_attempts_total{outcome="completed"} 2.0' in lines
    assert b'flowhook_attempts_total{outcome="faulted"} 1.0' in lines
    assert b'flowhook_call_duration_seconds_bucket{function="http",le="0.1",outcome="ok"} 0.0' in lines
    assert b'flowhook_call_duration_seconds_bucket{function="http",le="0.25",outcome="ok"} 1.0' in lines


def test_functions_beyond_a_limit_are_counted_together():
    counts, registry = RunnerMetrics(), CollectorRegistry()
    counts.expose(registry)
    for number in range(1000):
        counts.called(f"function-{number}", "ok", 0.2)
    lines = [line for line in render(registry).splitlines() if line.startswith(b"flowhook_call_duration_seconds_count")]
    assert len(lines) == 201
    assert b'flowhook_call_duration_seconds_count{function="_other",outcome="ok"} 800.0' in lines
