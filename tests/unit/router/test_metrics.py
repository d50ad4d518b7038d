"""What the router counts of flows, and when executions were accepted."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry
from support.clocks import Clock

from flowhook.model import Status
from flowhook.process.metric_table import MAX_FLOWS, OTHER
from flowhook.process.metrics import render
from flowhook.reporting.process_reports import within_limits
from router.metrics import MAX_TIMES, AcceptanceTimes, RouterMetrics
from router.reports.processes import MAX_PROCESSES
from router.scheduling.queues import STATES


def made():
    clock, registry = Clock(), CollectorRegistry()
    return RouterMetrics(registry, lambda: clock.now), clock, registry.get_sample_value


def test_an_execution_is_as_old_as_the_sample_before_it_says():
    times = AcceptanceTimes()
    times.add(10, 1.0)
    times.add(20, 2.0)
    assert [times.of(seq) for seq in (9, 10, 19, 20, 99)] == [None, 1.0, 1.0, 2.0, 2.0]


def test_times_of_acceptance_are_bounded_and_precise_to_a_share_of_their_age():
    times = AcceptanceTimes()
    for seq in range(1_000_000):
        times.add(seq, seq / 100)  # for some three hours
    assert len(times._times) <= MAX_TIMES
    now = 1_000_000 / 100
    for seq in (1, 1000, 500_000, 900_000, 999_000, 999_999):
        age, known = now - seq / 100, now - times.of(seq)
        assert age <= known <= age * 1.03 + 0.011


def test_a_clock_that_is_set_back_does_not_disturb_the_order():
    times = AcceptanceTimes()
    times.add(1, 5.0)
    times.add(2, 3.0)
    times.add(3, 5.5)
    assert [times.of(seq) for seq in (1, 2, 3)] == [5.0, 5.0, 5.5]


def test_waits_and_durations_are_counted_from_the_acceptance():
    metrics, clock, value = made()
    metrics.times.add(1, clock.now)
    clock.now += 0.2
    metrics.assigned([(1, "shop")], 3)
    clock.now += 20
    metrics.ended([(1, "shop", Status.FAULTED), (0, "shop", Status.COMPLETED)])  # the time of one is not known
    labels = {"flow": "shop"}
    assert value("flowhook_queue_wait_seconds_bucket", labels | {"le": "0.1"}) == 0
    assert value("flowhook_queue_wait_seconds_bucket", labels | {"le": "0.25"}) == 1
    assert value("flowhook_leases_granted_total") == 3
    assert value("flowhook_event_end_to_end_seconds_bucket", labels | {"le": "5.0"}) == 0
    assert value("flowhook_event_end_to_end_seconds_bucket", labels | {"le": "30.0"}) == 1
    assert value("flowhook_executions_total", labels | {"status": "faulted"}) == 1
    assert value("flowhook_executions_total", labels | {"status": "completed"}) == 1


def test_a_clock_that_jumps_makes_no_negative_duration():
    metrics, clock, value = made()
    metrics.times.add(1, clock.now)
    clock.now -= 3600
    metrics.assigned([(1, "shop")], 1)
    assert value("flowhook_queue_wait_seconds_sum", {"flow": "shop"}) == 0
    assert value("flowhook_queue_wait_seconds_count", {"flow": "shop"}) == 1


def test_whoever_names_flows_that_do_not_exist_makes_no_series_of_them():
    metrics, _, value = made()
    for number in range(1000):
        metrics.rejected(None, "FLOW_NOT_FOUND")
        metrics.received(f"flow-{number}", 5.0, duplicate=False)
    assert value("flowhook_events_rejected_total", {"flow": "_unknown", "reason": "FLOW_NOT_FOUND"}) == 1000
    assert value("flowhook_events_accepted_total", {"flow": OTHER}) == 1000 - MAX_FLOWS
    assert value("flowhook_last_event_timestamp_seconds", {"flow": "flow-0"}) == 5


def test_whatever_events_are_refused_for_the_metrics_fit_into_a_report():
    metrics = RouterMetrics(registry := CollectorRegistry())
    for number in range(MAX_FLOWS + 1):
        flow_id = f"flow-{number}"
        metrics.times.add(number, time.monotonic())
        metrics.received(flow_id, 1.0, duplicate=True)
        metrics.received(flow_id, 1.0, duplicate=False)
        metrics.assigned([(number, flow_id)], 1)
        metrics.ended([(number, flow_id, status) for status in (Status.COMPLETED, Status.FAULTED, Status.CANCELLED)])
        for reason in range(15):
            metrics.rejected(flow_id, f"REASON_{reason}")
    flows = [*metrics.flows, OTHER]
    metrics.expose(
        {
            "flowhook_queue_depth": lambda: [((flow_id, state), 1) for flow_id in flows for state in STATES],
            "flowhook_queue_oldest_age_seconds": lambda: [((flow_id,), 1) for flow_id in flows],
            "flowhook_incidents_open": lambda: [((flow_id,), 1) for flow_id in flows],
            "flowhook_runner_credit": lambda: [((f"runner-{number}",), 1) for number in range(MAX_PROCESSES)],
        }
    )
    text = render(registry)
    assert within_limits(text + b"\n" * 200)  # there are some more
    assert b'flowhook_events_rejected_total{flow="flow-0",reason="_other"} 10.0' in text
