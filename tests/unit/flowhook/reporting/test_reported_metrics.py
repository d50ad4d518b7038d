"""What is accepted of the metrics that a process reports, and how it is labelled."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.cases import cases

from flowhook.process import metrics
from flowhook.reporting.reported_metrics import MAX_LABELS, MAX_VALUE, NONE, check, labelled

HEAD = b"# HELP a A.\n# TYPE a gauge\n"


def test_what_the_prometheus_client_writes_is_accepted_and_labelled():
    registry = CollectorRegistry()
    Histogram("seconds", 'Of "a" \\ \n b.', ["path"], registry=registry).labels('q"uo\\te\n,process="x"').observe(1e-9)
    for number, value in enumerate((float("nan"), float("-inf"), -1.5e-05, 1e300)):
        Gauge(f"g{number}", "", registry=registry).set(value)
    text = generate_latest(registry)

    checked = check(text, 'edge "1"', "edge")

    expected = list(text_string_to_metric_families(text.decode()))
    found = list(text_string_to_metric_families(checked.text.decode()))
    assert [(family.name, family.type, family.documentation) for family in found] == [
        (family.name, family.type, family.documentation) for family in expected
    ]
    samples = [sample for family in expected for sample in family.samples]
    assert checked.series == len(samples)
    added = {"process": 'edge "1"', "role": "edge"}
    assert [(sample.name, sample.labels) for family in found for sample in family.samples] == [
        (sample.name, sample.labels | added) for sample in samples
    ]


def test_metrics_of_this_process_are_accepted():
    assert check(generate_latest(metrics.registry()), "edge-1", "edge").series > 10


@cases(
    "text",
    [
        b"a 1\n",
        b"# HELP a A.\na 1\n",
        b"# HELP a A.\n# TYPE b gauge\nb 1\n",
        b"# HELP a A.\n# TYPE a anything\na 1\n",
        HEAD + b"b 1\n",
        HEAD + b"a\n",
        HEAD + b"a 1 1700000000\n",
        HEAD + b"a one\n",
        HEAD + b"a{b=c} 1\n",
        HEAD + b'a{b="c} 1\n',
        HEAD + b'a{b="\xff\\x"} 1\n',
        HEAD + b"a 1\na 2\n",
        HEAD + b'a{process="other"} 1\n',
        HEAD + b'a{b="c",role="router"} 1\n',
        HEAD + b'a{b="%b"} 1\n' % (b"x" * (MAX_VALUE + 1)),
        HEAD + b"a{%b} 1\n" % b",".join(b'l%d=""' % number for number in range(MAX_LABELS + 1)),
        b"# HELP %b A.\n# TYPE %b gauge\n%b 1\n" % ((b"a" * 129,) * 3),
        b"# HELP flowhook_up A.\n# TYPE flowhook_up gauge\nflowhook_up 1\n",
        HEAD + b'a{b="c"} 1\r\nd',
    ],
)
def test_anything_else_is_left_out(text):
    assert check(text, "edge-1", "edge") == NONE


def test_own_metrics_get_the_same_labels_without_being_checked():
    text = generate_latest(metrics.registry()) + b'# HELP a A.\n# TYPE a gauge\na{b="}{ \\" "} 1.0\n'
    assert labelled(text, 'edge "1"', "edge") == check(text, 'edge "1"', "edge").text
