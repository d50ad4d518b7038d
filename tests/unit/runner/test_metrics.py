import pytest
from prometheus_client import CollectorRegistry, generate_latest

from flowhook.model.executions import JournalEntry
from flowhook.reporting.process_reports import within_limits
from flowhook.reporting.reported_metrics import check
from runner.interpreter.effects import JournalWrite
from runner.metrics import RunnerMetrics


def lines_of(counts):
    counts.expose(registry := CollectorRegistry())
    return generate_latest(registry).decode().splitlines()


def test_attempts_calls_and_requests_are_counted():
    counts = RunnerMetrics()
    for outcome in ("completed", "faulted", "completed"):
        counts.attempts[outcome] += 1
    counts.called("shop", "http", "completed", 0.2)
    counts.requested("example.com", "200", "", 0.2)
    keys = ("/do/0/a#0", "/do/0/a#0:retry", "/do/1/b#0:wait")
    counts.journaled(
        "shop", [JournalWrite(JournalEntry(key, output)) for key in keys for output in (b'{"until":1}', b'{"over":2}')]
    )
    lines = lines_of(counts)
    assert 'flowhook_attempts_total{outcome="completed"} 2.0' in lines
    assert 'flowhook_attempts_total{outcome="faulted"} 1.0' in lines
    name = 'flowhook_task_duration_seconds_bucket{flow="shop",function="http",le="%s",status="completed"} %.1f'
    assert {name % ("0.1", 0), name % ("0.25", 1)} <= {*lines}
    assert 'flowhook_task_retries_total{flow="shop"} 1.0' in lines
    labels = 'error_type="",http_response_status_code="200",server_address="example.com"'
    assert f"http_client_request_duration_seconds_count{{{labels}}} 1.0" in lines


def test_whatever_flows_call_the_metrics_fit_into_a_report():
    counts = RunnerMetrics()
    for number in range(1000):
        name = f"{number:0>4}" + "x" * 100
        counts.journaled(name, [JournalWrite(JournalEntry("a:retry", b'{"over":2}'))])
        for kind in range(20):
            counts.called(name, f"function-{kind}", "completed", 0.2)
            counts.requested(name, str(kind), "", 0.2)
    lines = lines_of(counts)
    assert within_limits("\n".join(lines).encode())
    assert any(line.startswith('flowhook_task_retries_total{flow="_other"} 800') for line in lines)


@pytest.mark.parametrize("host", ["x" * 300, "fe80::1%25" + "\u00fc" * 200, "a\rb", "a\udc80b"])
def test_a_host_that_is_no_name_does_not_cost_the_metrics_of_the_runner(host):
    counts = RunnerMetrics()
    counts.requested(host, "", "ClientConnectorDNSError", 0.2)
    counts.expose(registry := CollectorRegistry())
    found = check(generate_latest(registry), "r", "runner")
    assert b'server_address="_other"' in found.text
