"""Metrics of one process."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.cases import cases

from flowhook.process import metrics
from flowhook.process.metrics import OPENMETRICS_TYPE, TEXT_TYPE, Histogram, expose, in_openmetrics, negotiated


def test_a_process_reports_its_cpu_memory_and_files():
    text = generate_latest(metrics.registry()).decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= families


def test_there_is_one_registry_a_process():
    assert metrics.registry() is metrics.registry()


def test_values_are_copied_when_they_are_collected():
    seen = Histogram("flowhook_queue_wait_seconds")
    expose(registry := CollectorRegistry(), {"flowhook_queue_wait_seconds": lambda: [(("a",), seen)]})
    seen.observe(0.2)
    [family] = registry.collect()
    seen.observe(0.2)
    [count] = [sample.value for sample in family.samples if sample.name.endswith("_count")]
    assert count == 1


@pytest.mark.parametrize("seconds", [0.0, -3600.0, float("-inf")])
def test_a_clock_that_was_set_back_makes_no_negative_duration(seconds):
    seen = Histogram("flowhook_queue_wait_seconds")
    seen.observe(seconds)
    assert (seen.counts[0], seen.total) == (1, 0.0)


def test_a_metric_that_is_not_in_the_table_can_not_be_exposed():
    with pytest.raises(KeyError):
        expose(CollectorRegistry(), {"flowhook_new_total": lambda: 1})


def test_metrics_that_were_exposed_can_be_removed():
    hide = expose(registry := CollectorRegistry(), {"flowhook_router_owner": lambda: 1})
    hide()
    assert generate_latest(registry) == b""


def test_both_formats_say_the_same():
    seen = Histogram("flowhook_queue_wait_seconds")
    seen.observe(2.0)
    registry = CollectorRegistry()
    expose(
        registry,
        {
            "flowhook_queue_wait_seconds": lambda: [(("a",), seen)],
            "flowhook_events_accepted_total": lambda: [(("a",), 3), (('b"\\\n',), 1e20)],
            "flowhook_router_owner": lambda: 1,
        },
    )
    text = generate_latest(registry) + generate_latest(metrics.registry())
    plain = list(text_string_to_metric_families(text.decode()))
    opened = list(openmetrics.text_string_to_metric_families(in_openmetrics(text).decode()))
    assert [(each.name, each.type, each.documentation) for each in plain] == [
        (each.name, each.type, each.documentation) for each in opened
    ]
    for one, other in zip(plain, opened, strict=True):
        assert [(s.name, s.labels, s.value) for s in one.samples] == [
            (s.name, s.labels, s.value) for s in other.samples
        ]
    assert {each.name: each.unit for each in opened}["flowhook_queue_wait_seconds"] == "seconds"


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@cases(
    ("accept", "kind"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html", TEXT_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ("Application/OpenMetrics-Text ; Q=0.9", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.6", TEXT_TYPE),
        ("application/openmetrics-text;q=inf", TEXT_TYPE),
        ("a/b," * 100_000 + "application/openmetrics-text", TEXT_TYPE),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept, kind):
    assert negotiated(accept, b"")[0] == kind
