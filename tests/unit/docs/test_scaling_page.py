"""The sizes in docs/scaling.md follow from the figures that the page names."""

from __future__ import annotations

import math
import re

from support import pages

PAGE = pages.text_of("scaling.md")
SECTION = PAGE.partition("### Memory and disk\n")[2].partition("\n## ")[0]
HOUR, DAY, MIB, GB = 3_600, 86_400, 2**20, 1e9


def number(text):
    return float(re.sub(r"[^\d.]", "", text))


def figure(pattern):
    return number(re.search(pattern, SECTION)[1])


def test_the_sizes_follow_from_the_figures():
    share = number(re.search(r"Multiply\s+by (0\.\d)", PAGE)[1])
    execution = number(re.search(r"CPU time in all processes \| [^|]+ \| (\d+) µs", PAGE)[1]) / 1e6
    edge, runner = (
        number(re.search(rf"one {each} process at most.*\| ([\d,]+) \|\n", PAGE)[1]) for each in ("edge", "runner")
    )
    beside, rest, per_edge, per_runner, waiting = (
        figure(rf"([\d,]+) (?:bytes|MiB) {what}")
        for what in (
            "beside the body",
            "at rest",
            "for each further edge",
            "for each further runner",
            "for each that waits",
        )
    )
    rows = [row for row in pages.rows(SECTION) if re.match(r"[\d,]+$", row[0])]
    assert len(rows) >= 3
    for cells in rows:
        rate, body, days = map(number, cells[:3])
        cores = rate * execution / share
        edges, runners = (max(least, math.ceil(rate / share / most)) for most, least in ((edge, 1), (runner, 2)))
        memory = rest + (edges - 1) * per_edge + (runners - 2) * per_runner + rate * HOUR * waiting / MIB
        disk = rate * DAY * days * (body + beside) / GB
        expected = [f"{cores:.3f}", f"{edges}, {runners}", f"{memory:,.0f} MiB", f"{disk:,.0f} GB"]
        assert cells[3:] == expected, cells[:3]
