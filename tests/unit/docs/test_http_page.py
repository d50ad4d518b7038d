from __future__ import annotations

import re

from support import pages

from flowhook.signatures.types import REASONS
from flowhook.wire.status import THROTTLED

PAGE = pages.text_of("http.md")

FROM_THE_ROUTER = {
    *(("429", reason) for reason in THROTTLED),
    ("503", "TOTAL_BACKLOG_FULL"),
    ("503", "STORAGE_FULL"),
    ("503", "STORAGE_UNAVAILABLE"),
    ("503", "UPLOADS_FULL"),
    ("503", "BODY_LOST"),
}


CONFIGURABLE = {("502", "FLOW_FAULTED"), ("422", "SCHEMA_VIOLATED")}
"""A flow may give it another status."""


def source(*folders):
    return "".join(path.read_text() for folder in folders for path in sorted((pages.ROOT / folder).rglob("*.py")))


def reported():
    return {(row[0], row[1].strip("`")) for row in pages.rows(PAGE) if re.fullmatch(r"\d{3}", row[0])}


def test_every_refusal_is_documented_and_no_other():
    edge = source("edge")
    given = set(re.findall(r'\bproblem\(\s*(\d{3}), "([A-Z_]+)"', edge))
    given |= set(re.findall(r'MalformedRequestError\((\d{3}), "([A-Z_]+)"', edge))

    assert reported() == given | FROM_THE_ROUTER | CONFIGURABLE


def test_reasons_of_the_router_are_still_its_reasons():
    router = source("router", "flowhook")

    assert [reason for _, reason in FROM_THE_ROUTER if f'"{reason}"' not in router] == []


def test_every_reason_in_the_log_is_documented():
    section = PAGE.partition("## Why a request was 401")[2].partition("\n## ")[0]

    assert {row[0].strip("`") for row in pages.rows(section) if row[0].startswith("`")} == REASONS
