"""The alert rules: whole, on metrics that there are, and each with its section of the runbook."""

from __future__ import annotations

import re

from support import monitoring, pages
from support.cases import cases

RULES = monitoring.rules()
RUNBOOK = pages.text_of("runbook.md")


def name_of(rule):
    return rule["alert"]


@cases("rule", RULES, ids=name_of)
def test_a_rule_is_whole(rule):
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "runbook_url"}


@cases("rule", RULES, ids=name_of)
def test_a_rule_reads_metrics_that_there_are_by_labels_that_they_have(rule):
    known = monitoring.metrics()
    for metric, labels in monitoring.selectors(rule["expr"]):
        assert metric in known
        assert labels - monitoring.OF_TARGETS <= known[metric], metric


@cases("rule", RULES, ids=name_of)
def test_a_rule_leads_to_its_section_of_the_runbook(rule):
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert page == "{{ $externalLabels.flowhook_console }}/docs/runbook"
    assert anchor in pages.anchors(pages.DOCS / "runbook.md")


def test_the_runbook_has_a_section_for_each_rule_and_no_other():
    assert re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_table_of_the_runbook_has_the_severities():
    rows = {name: severity for name, severity, *_ in pages.rows(RUNBOOK)[1:] if name.startswith("[")}

    assert rows == {f"[{rule['alert']}](#{rule['alert'].lower()})": rule["labels"]["severity"] for rule in RULES}


@cases("rule", RULES, ids=name_of)
def test_a_section_says_where_to_look_by_commands_and_what_to_do(rule):
    section = RUNBOOK.partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]

    assert re.search(r"^Look at ", section, re.MULTILINE)
    assert re.search(r"^Do: ", section, re.MULTILINE)
    assert "$ flowhook " in section


def test_an_expression_on_what_is_not_there_is_found():
    known = monitoring.metrics()
    [found] = monitoring.selectors("sum by (planet) (rate(flowhook_executions_total[5m])) > 1")

    assert found == ("flowhook_executions_total", {"planet"})
    assert found.labels - known[found.metric] == {"planet"}
    assert "flowhook_nothing" not in known
