"""docs/metrics.md lists the table of metrics in the code. `FLOWHOOK_RENEW_DOCS=1` renews it."""

from __future__ import annotations

import os
import re

from support import pages

from flowhook.process.metric_table import COUNTER, HISTOGRAM, MAX_FLOWS, METRICS, TABLE

PAGE = pages.DOCS / "metrics.md"
HEAD = f"""# Metrics

This page lists all metrics, by what they tell of. It is generated from the code.

Every process answers `/metrics` on [its private port](operations.md#the-private-port), in the text
format of Prometheus or, if the `Accept` header prefers it, in OpenMetrics. Admin has the sum of all
processes at `/metrics` of [its port](operations.md#health): there each series has the labels
`process` and `role` besides those below. Times are in seconds, sizes in bytes. Counters begin at 0
with the process; with a replicated log, those of the router begin at 0 with each ownership.

Two nouns: an *execution* is what an event starts, and ends once; an *attempt* is the work of a runner
at an execution, of which there may be several.

The label `flow` is a flow's ID for the {MAX_FLOWS} busiest flows of a process, and `_other` for all others
together: a series of a flow goes away when others are much busier, and begins at 0 when it comes
back. No label holds what a sender made up: requests for flows that do not exist have `_unknown`.
"""


def page():
    lines = [HEAD]
    for heading, metrics in TABLE.items():
        lines += [f"\n## {heading}\n\n| metric | kind | labels | of | |\n|---|---|---|---|---|\n"]
        for each in metrics:
            labels = ", ".join(f"`{label}`" for label in each.labels)
            roles = "every process" if len(each.roles) == 4 else ", ".join(each.roles)
            lines.append(f"| `{each.name}` | {each.kind} | {labels} | {roles} | {each.help} |\n")
    return "".join(lines) + "\nEach process also has `process_*` and `python_gc_*`.\n"


def test_the_page_lists_every_metric():
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "renew it with FLOWHOOK_RENEW_DOCS=1"


def test_names_follow_the_conventions_of_prometheus():
    assert len(METRICS) == sum(map(len, TABLE.values()))
    for metric in METRICS.values():
        assert re.fullmatch(r"(flowhook|http|rpc)_[a-z_]+", metric.name), metric
        assert metric.name.endswith("_total") == (metric.kind == COUNTER), metric
        assert bool(metric.bounds) == (metric.kind == HISTOGRAM), metric
        assert list(metric.bounds) == sorted(set(metric.bounds)), metric
        assert metric.help.endswith("."), metric
        assert "process" not in metric.labels or metric.name == "flowhook_up", "admin adds these labels"
