from prometheus_client import CollectorRegistry

from flowhook.process.metrics import render
from runner.metrics import EndedExecutions


def test_attempts_that_ended_are_counted_by_outcome():
    executions, registry = EndedExecutions(), CollectorRegistry()
    registry.register(executions)
    for outcome in ("completed", "faulted", "completed"):
        executions.ended(outcome)
    lines = render(registry).splitlines()
    assert b'flowhook_executions_total{outcome="completed"} 2.0' in lines
    assert b'flowhook_executions_total{outcome="faulted"} 1.0' in lines
