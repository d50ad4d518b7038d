"""What the router exposes of what it counts, and when executions were accepted."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from flowhook.model import Status
from flowhook.process.metric_table import MAX_FLOWS, METRICS, OTHER
from flowhook.reporting.process_reports import within_limits
from router.dispatch.flow_statistics import MAX_TIMES, AcceptanceTimes, FlowStatisticsCounter
from router.dispatch.metrics import RouterMetrics
from router.reports.processes import MAX_PROCESSES
from router.scheduling.queues import STATES
from router.storage.model import LoggedEvent, NewEvent
from router.storage.series import BOUNDS


def made():
    statistics, registry = FlowStatisticsCounter(0), CollectorRegistry()
    return RouterMetrics(registry, statistics), statistics, registry.get_sample_value


def accept(statistics, flow_id, seq=1, *, now=0.0, now_ms=5000, sent=True):
    event = NewEvent(f"evt_{seq}", flow_id, 1, now_ms, b"", dedupe_at_ms=now_ms if sent else 0)
    statistics.accepted([LoggedEvent(seq, event)], now_ms, now)


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


def test_the_bounds_of_histograms_are_among_those_that_durations_are_counted_by():
    for metric in ("flowhook_queue_wait_seconds", "flowhook_event_end_to_end_seconds"):
        assert set(METRICS[metric].bounds) <= set(BOUNDS)


def test_waits_and_durations_are_counted_from_the_acceptance():
    metrics, statistics, value = made()
    accept(statistics, "shop")
    statistics.assigned([(1, "shop")], 0.2)
    statistics.ended([(1, "shop", Status.FAULTED), (0, "shop", Status.COMPLETED)], 25_200, 20.2)  # one began before
    metrics.granted += 3
    labels = {"flow": "shop"}
    assert value("flowhook_queue_wait_seconds_bucket", labels | {"le": "0.1"}) == 0
    assert value("flowhook_queue_wait_seconds_bucket", labels | {"le": "0.25"}) == 1
    assert value("flowhook_queue_wait_seconds_sum", labels) == 0.2
    assert value("flowhook_leases_granted_total") == 3
    assert value("flowhook_event_end_to_end_seconds_bucket", labels | {"le": "5.0"}) == 0
    assert value("flowhook_event_end_to_end_seconds_bucket", labels | {"le": "30.0"}) == 1
    assert value("flowhook_executions_total", labels | {"status": "faulted"}) == 1
    assert value("flowhook_executions_total", labels | {"status": "completed"}) == 1


def test_a_duration_that_is_a_bound_is_in_the_bucket_of_the_bound_and_a_longer_one_is_not():
    _, statistics, value = made()
    bounds = METRICS["flowhook_queue_wait_seconds"].bounds
    accept(statistics, "shop")
    for bound in bounds:
        statistics.assigned([(1, "shop")], bound)
        statistics.assigned([(1, "shop")], bound * 1.0001)
    found = [value("flowhook_queue_wait_seconds_bucket", {"flow": "shop", "le": str(bound)}) for bound in bounds]
    assert found == [2 * number + 1 for number in range(len(bounds))]
    statistics.assigned([(1, "shop")], 10 * BOUNDS[-1])
    assert value("flowhook_queue_wait_seconds_count", {"flow": "shop"}) == 2 * len(bounds) + 1


def test_a_clock_that_jumps_makes_no_negative_duration():
    _, statistics, value = made()
    accept(statistics, "shop", now=3600.0)
    statistics.assigned([(1, "shop")], 0.0)
    assert value("flowhook_queue_wait_seconds_sum", {"flow": "shop"}) == 0
    assert value("flowhook_queue_wait_seconds_count", {"flow": "shop"}) == 1


def test_what_nobody_sent_is_no_event_that_was_accepted_and_a_callback_is():
    metrics, statistics, value = made()
    accept(statistics, "shop", sent=False)
    assert value("flowhook_events_accepted_total", {"flow": "shop"}) == 0
    assert value("flowhook_last_event_timestamp_seconds", {"flow": "shop"}) is None
    statistics.called_back("shop", 7000)
    metrics.repeated("shop")
    assert value("flowhook_events_accepted_total", {"flow": "shop"}) == 1
    assert value("flowhook_events_duplicate_total", {"flow": "shop"}) == 1
    assert value("flowhook_last_event_timestamp_seconds", {"flow": "shop"}) == 7


def test_minutes_that_are_over_and_stored_still_count():
    _, statistics, value = made()
    for minute in range(3):
        accept(statistics, "shop", minute, now_ms=minute * 60_000 + 1)
        if (over := statistics.take(minute * 60_000 + 1)) is not None:
            assert over.flows["shop"].accepted == 1
        assert value("flowhook_events_accepted_total", {"flow": "shop"}) == minute + 1


def test_whoever_names_flows_that_do_not_exist_makes_no_series_of_them():
    metrics, statistics, value = made()
    for number in range(1000):
        metrics.rejected(None, "FLOW_NOT_FOUND")
        accept(statistics, f"flow-{number}", number)
    assert value("flowhook_events_rejected_total", {"flow": "_unknown", "reason": "FLOW_NOT_FOUND"}) == 1000
    assert value("flowhook_events_accepted_total", {"flow": OTHER}) == 1000 - MAX_FLOWS
    assert value("flowhook_last_event_timestamp_seconds", {"flow": "flow-0"}) == 5


def test_whatever_events_are_refused_for_the_metrics_fit_into_a_report():
    statistics = FlowStatisticsCounter(0)
    metrics = RouterMetrics(registry := CollectorRegistry(), statistics)
    for number in range(MAX_FLOWS + 1):
        flow_id = f"flow-{number}"
        accept(statistics, flow_id, number)
        metrics.repeated(flow_id)
        statistics.assigned([(number, flow_id)], 1.0)
        ends = (Status.COMPLETED, Status.FAULTED, Status.CANCELLED)
        statistics.ended([(number, flow_id, status) for status in ends], 5000, 1.0)
        for reason in range(15):
            metrics.rejected(flow_id, f"REASON_{reason}")
    statistics.fold()
    flows = [*statistics.busiest, OTHER]
    metrics.expose(
        {
            "flowhook_queue_depth": lambda: [((flow_id, state), 1) for flow_id in flows for state in STATES],
            "flowhook_queue_oldest_age_seconds": lambda: [((flow_id,), 1) for flow_id in flows],
            "flowhook_incidents_open": lambda: [((flow_id,), 1) for flow_id in flows],
            "flowhook_runner_credit": lambda: [((f"runner-{number}",), 1) for number in range(MAX_PROCESSES)],
        }
    )
    text = generate_latest(registry)
    assert within_limits(text + b"\n" * 200)  # there are some more
    assert b'flowhook_events_rejected_total{flow="flow-0",reason="_other"} 10.0' in text
