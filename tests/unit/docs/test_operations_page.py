from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry
from support import pages
from support.cases import cases
from support.settings_tables import TABLES, table

from admin.application import PAGES
from edge.metrics import EdgeMetrics
from flowhook.process.metrics import registry
from flowhook.security import tokens
from router.metrics import RouterMetrics
from runner import metrics as runner_metrics

PAGE = pages.text_of("operations.md")


def settings():
    for page, tables in TABLES.items():
        for heading, model in tables.items():
            yield pytest.param(page, heading, model, id=f"{page}: {heading}")


@cases(("page", "heading", "model"), list(settings()))
def test_every_setting_is_documented_with_option_and_default(page, heading, model):
    section = re.split(rf"^#+ {heading}$", pages.text_of(page), flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, flags=re.MULTILINE)[0]
    reported = [row[:3] for row in pages.rows(section)]

    assert reported == [row[:3] for row in pages.rows("\n".join(table(model)))]


def test_every_metric_is_documented_and_no_other():
    RouterMetrics(router := CollectorRegistry())
    runner_metrics.register()
    families = [*EdgeMetrics().collect(), *router.collect(), *registry().collect()]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    # gauges are named where the values are that they show
    for path in (
        "edge/app.py",
        "router/process/serving.py",
        "router/process/replicated_app.py",
        "admin/status_handlers.py",
        "flowhook/reporting/process_reports.py",
    ):
        names |= set(re.findall(r'"(flowhook_[a-z_]+)"', (pages.ROOT / path).read_text()))
    section = PAGE.partition("## Metrics")[2].partition("\n## ")[0]

    reported = {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")}

    assert reported == {name for name in names if name.startswith("flowhook_")}
    kinds = {row[0].strip("`").removesuffix("_total"): row[1] for row in pages.rows(section) if row[0].startswith("`")}
    of_code = {family.name: family.type for family in families if family.name.startswith("flowhook_")}
    assert {name: kinds[name] for name in of_code} == of_code


def test_every_scope_is_documented():
    section = PAGE.partition("## Tokens")[2].partition("\n## ")[0]

    assert {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")} == set(tokens.TokenScope)


def test_every_path_of_admin_is_documented():
    served = {path for path, handler in PAGES if handler.__module__ == "admin.status_handlers"} | {"/"}
    section = PAGE.partition("## Health")[2].partition("\n## ")[0]

    assert {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")} == served
