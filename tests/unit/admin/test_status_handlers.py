"""The metrics of all processes as one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from support.cpu import cpu_seconds

from admin.status_handlers import merge_metrics
from flowhook.client import ProcessInfo
from flowhook.reporting.reported_metrics import check

COUNTER = """\
# HELP flowhook_requests_total Requests.
# TYPE flowhook_requests_total counter
flowhook_requests_total{status="202"} %d
"""

ENOUGH = 0.1
"""CPU seconds in which reports of 5 MB are merged."""

HISTOGRAM = """\
# HELP flowhook_seconds Time.
# TYPE flowhook_seconds histogram
flowhook_seconds_bucket{le="0.1"} 1.0
flowhook_seconds_bucket{le="+Inf"} 2.0
flowhook_seconds_count 2.0
flowhook_seconds_sum 1.5
"""


def _process(name, metrics, *, ready=True):
    role = name.partition("-")[0]
    return ProcessInfo(name, role, "", 1, "host", ready, "", check(metrics.encode(), name, role).text, 0.1)


def _families(*processes):
    return {family.name: family for family in text_string_to_metric_families(merge_metrics(processes).decode())}


def test_a_family_of_two_processes_is_one_group_distinguished_by_labels():
    text = merge_metrics([_process("edge-1", COUNTER % 3), _process("edge-2", COUNTER % 4)]).decode()
    assert text.count("# TYPE flowhook_requests_total counter") == 1
    assert 'flowhook_requests_total{process="edge-1",role="edge",status="202"} 3' in text
    assert 'flowhook_requests_total{process="edge-2",role="edge",status="202"} 4' in text


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
    gauge = "# HELP flowhook_seconds Time.\n# TYPE flowhook_seconds gauge\nflowhook_seconds 1\n"
    family = _families(_process("edge-1", HISTOGRAM), _process("edge-2", gauge))["flowhook_seconds"]
    assert {sample.labels["process"] for sample in family.samples} == {"edge-1"}


def test_large_reports_take_next_to_no_time():
    """Parsing them took 2 s, and 12 s with many labels, at each call of `/metrics`."""
    lines = "".join(f'flowhook_x{{a="{number}",b="{"y" * 64}"}} 1.0\n' for number in range(4900))
    report = check(f"# HELP flowhook_x X.\n# TYPE flowhook_x gauge\n{lines}".encode(), "admin-1", "admin").text
    processes = [ProcessInfo(f"admin-{n}", "admin", "", 1, "host", True, "", report, 0.1) for n in range(12)]
    assert cpu_seconds(lambda: merge_metrics(processes), ENOUGH) < ENOUGH
