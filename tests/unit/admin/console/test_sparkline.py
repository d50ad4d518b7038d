"""The bars of a flow's last hour."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from admin.console.rendering import HEIGHT, sparkline


def bars(svg, name):
    found = re.search(rf'<path class="{name}" d="([^"]*)"/>', svg)
    return [] if found is None else [tuple(map(int, bar)) for bar in re.findall(r"M(\d+) \d+v-(\d+)", found[1])]


def test_each_minute_that_is_not_empty_has_a_bar_as_high_as_its_count():
    svg = sparkline([0, 10, 5, 0], [0, 0, 5, 0])
    assert bars(svg, "accepted") == [(3, HEIGHT), (5, HEIGHT // 2)]
    assert bars(svg, "faulted") == [(5, HEIGHT // 2)]
    assert 'width="8"' in svg


def test_a_single_one_among_many_is_still_seen():
    assert bars(sparkline([100_000, 1], [0, 0]), "accepted") == [(1, HEIGHT), (3, 1)]


def test_what_faulted_may_be_more_than_what_was_accepted():
    svg = sparkline([1, 0], [0, 4])
    assert bars(svg, "accepted") == [(1, 6)]
    assert bars(svg, "faulted") == [(3, HEIGHT)]


def test_the_title_says_in_words_what_the_bars_show():
    assert "<title>nothing in the last hour</title>" in sparkline([0] * 60, [0] * 60)
    title = "in the last hour: 1,203 accepted, at most 1,200 in a minute; 2 faulted"
    assert f"<title>{title}</title>" in sparkline([1200, 3], [2, 0])


def test_it_is_well_formed_has_no_style_and_is_small():
    svg = sparkline([9_999_999] * 60, [9_999_998] * 60)
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert "style" not in svg
    assert len(svg) < 2000
