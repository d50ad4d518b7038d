"""The dashboards for Grafana: those of `harness.dashboards`, on metrics that there are."""

from __future__ import annotations

import json
import re

from support import monitoring
from support.cases import cases

from flowhook.process.metric_table import METRICS
from harness import dashboards

SHOWN = {path.stem: json.loads(path.read_text()) for path in sorted(monitoring.GRAFANA.glob("*.json"))}
PANELS = [(name, panel) for name, shown in SHOWN.items() for panel in shown["panels"]]
UNITS = {"bytes", "cps", "percentunit", "reqps", "s", "short"}
"""Those of Grafana that are used. Source: github.com/grafana/grafana, packages/grafana-data/src/valueFormats."""


def name_of(case):
    name, panel = case
    return f"{name}: {panel['title']}"


def test_the_files_are_what_the_script_writes():
    assert {path.name: path.read_text() for path in monitoring.GRAFANA.iterdir()} == {
        path.name: text for path, text in dashboards.written().items()
    }, "renew them with `python -m harness.dashboards`"


@cases("case", PANELS, ids=name_of)
def test_a_panel_says_what_it_shows_in_which_unit(case):
    _, panel = case

    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]


@cases("case", PANELS, ids=name_of)
def test_a_panel_reads_metrics_that_there_are_by_labels_that_they_have(case):
    known = monitoring.metrics()
    _, panel = case
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", "5m").replace("$flow", "orders")
        legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        found = monitoring.selectors(query)
        assert found
        for metric, labels in found:
            assert metric in known
            assert (labels | legend) - monitoring.OF_TARGETS <= known[metric], metric
        # or series would have one legend
        assert legend <= set.intersection(*(set(selector.labels) for selector in found)), query


@cases("name", SHOWN)
def test_panels_lie_beside_one_another(name):
    places = [panel["gridPos"] for panel in SHOWN[name]["panels"]]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < dashboards.COLUMNS


def test_every_metric_of_flows_is_on_a_dashboard():
    queries = json.dumps(SHOWN)

    assert [name for name, metric in METRICS.items() if "flow" in metric.labels and name not in queries] == []
