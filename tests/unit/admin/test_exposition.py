"""The metrics of all processes as one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from admin.exposition import merge_metrics
from flowhook.client import ProcessInfo

COUNTER = """\
# HELP flowhook_requests_total Requests.
# TYPE flowhook_requests_total counter
flowhook_requests_total{status="202"} %d
"""

HISTOGRAM = """\
# HELP flowhook_seconds Time.
# TYPE flowhook_seconds histogram
flowhook_seconds_bucket{le="0.1"} 1.0
flowhook_seconds_bucket{le="+Inf"} 2.0
flowhook_seconds_count 2.0
flowhook_seconds_sum 1.5
"""


def _process(name, metrics, *, ready=True):
    return ProcessInfo(name, name.partition("-")[0], "", 1, "host", ready, "", metrics.encode(), 0.1)


def _families(*processes):
    return {family.name: family for family in text_string_to_metric_families(merge_metrics(processes).decode())}


def test_a_family_of_two_processes_is_one_group_distinguished_by_labels():
    text = merge_metrics([_process("edge-1", COUNTER % 3), _process("edge-2", COUNTER % 4)]).decode()
    assert text.count("# TYPE flowhook_requests_total counter") == 1
    assert 'flowhook_requests_total{process="edge-1",role="edge",status="202"} 3.0' in text
    assert 'flowhook_requests_total{process="edge-2",role="edge",status="202"} 4.0' in text


def test_a_histogram_survives():
    samples = _families(_process("edge-1", HISTOGRAM))["flowhook_seconds"].samples
    assert {sample.name for sample in samples} == {
        "flowhook_seconds_bucket",
        "flowhook_seconds_count",
        "flowhook_seconds_sum",
    }


def test_each_process_is_up_or_not():
    up = _families(_process("edge-1", ""), _process("edge-2", "", ready=False))["flowhook_up"]
    assert {sample.labels["process"]: sample.value for sample in up.samples} == {"edge-1": 1.0, "edge-2": 0.0}


def test_a_process_that_reports_nonsense_hides_no_other():
    families = _families(_process("edge-1", "not { a metric"), _process("edge-2", COUNTER % 1))
    assert len(families["flowhook_requests"].samples) == 1
    assert len(families["flowhook_up"].samples) == 2


def test_what_two_processes_call_by_one_name_but_type_differently_is_not_mixed():
    gauge = "# TYPE flowhook_seconds gauge\nflowhook_seconds 1\n"
    family = _families(_process("edge-1", HISTOGRAM), _process("edge-2", gauge))["flowhook_seconds"]
    assert {sample.labels["process"] for sample in family.samples} == {"edge-1"}
