"""Charts as SVG."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from admin.console.overview import BOTTOM, TIMES, TOP, Series, change, chart, count, duration, label_places, top_of
from flowhook.model.overview import MINUTES, STEPS, Period

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def times(number, step=timedelta(minutes=1)):
    return [NOON + number * step for number in range(number)]


def drawn(*series, **options):
    number = len(series[0].values)
    return str(chart("a", "Some <title>", times(number), series, count, **options))


def ticks(svg):
    return re.findall(r'<text class="tick" x="[\d.]+" y="[\d.]+" text-anchor="end">([^<]*)</text>', svg)


def columns(svg):
    return re.findall(r'<rect class="step"[^>]*><title>([^<]*)</title></rect>', svg)


def heights(svg, name):
    """Return the lower and upper end of each bar of a kind."""
    path = re.search(rf'<path class="bar {name}" d="([^"]*)"/>', svg)[1]
    return [tuple(map(float, each)) for each in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)h", path)]


def test_bars_stand_upon_one_another_and_the_axis_has_round_numbers():
    svg = drawn(Series("completed", [10, 0, 40]), Series("faulted", [10, 0, 0]), stacked=True)
    assert ticks(svg) == ["0", "25", "50"]
    scale = (BOTTOM - TOP) / 50
    assert heights(svg, "completed") == [
        (BOTTOM, pytest.approx(BOTTOM - 10 * scale, abs=0.1)),
        (BOTTOM, pytest.approx(BOTTOM - 40 * scale, abs=0.1)),
    ]
    [(low, high)] = heights(svg, "faulted")
    assert (low, high) == (
        pytest.approx(BOTTOM - 10 * scale, abs=0.1),
        pytest.approx(BOTTOM - 20 * scale, abs=0.1),
    )


def test_the_smallest_bar_is_seen():
    svg = drawn(Series("completed", [100_000, 1]), Series("faulted", [0, 1]), stacked=True)
    assert all(low - high >= 1 for low, high in [*heights(svg, "completed"), *heights(svg, "faulted")])


def test_each_step_says_its_values():
    svg = drawn(Series("p50", [1, None]), Series("p99", [2000, None]))
    assert columns(svg) == ["Nov 30, 12:00 UTC: 1 p50, 2k p99", "Nov 30, 12:01 UTC: nothing"]


def test_a_line_is_interrupted_where_there_is_no_value():
    svg = drawn(Series("p50", [1, 1, None, 1]))
    path = re.search(r'<path class="line p50" d="([^"]*)"/>', svg)[1]
    assert [path.count(letter) for letter in "MLh"] == [2, 1, 1]
    assert 'class="line' not in drawn(Series("p50", [None, None]))


def test_a_value_between_steps_without_any_is_seen():
    svg = drawn(Series("p50", [None] * 200 + [1] + [None] * 99))
    assert float(re.search(r'<path class="line p50" d="M[\d.]+ [\d.]+h([\d.]+)"/>', svg)[1]) >= 4


@pytest.mark.parametrize(
    ("greatest", "expected"),
    [
        (0.0009, ["0", "0.5 ms", "1 ms"]),
        (0.004, ["0", "2.5 ms", "5 ms"]),
        (0.04, ["0", "25 ms", "50 ms"]),
        (70, ["0", "1 min", "2 min"]),
    ],
)
def test_each_label_of_an_axis_is_the_number_at_its_height(greatest, expected):
    assert ticks(str(chart("a", "A", times(2), [Series("p50", [greatest] * 2)], duration, units=TIMES))) == expected


def test_a_step_leads_to_what_it_counts_and_such_a_chart_is_no_image():
    svg = drawn(Series("faulted", [3, 0]), stacked=True, link=lambda at: "" if at else "/executions?a=1&b=2")
    assert svg.count("<a ") == 1
    assert '<a href="/executions?a=1&amp;b=2"' in svg
    assert 'role="group"' in svg
    assert 'role="img"' in drawn(Series("faulted", [3, 0]))


def test_texts_are_escaped_and_nothing_has_a_style():
    svg = drawn(Series("<b>", [1, 2]))
    assert "<b>" not in svg
    assert "Some &lt;title&gt;" in svg
    assert "style" not in svg


@pytest.mark.parametrize(
    ("greatest", "units", "expected"),
    [
        (0, (1.0,), 1),
        (1, (1.0,), 1),
        (1.01, (1.0,), 2),
        (4, (1.0,), 5),
        (99, (1.0,), 100),
        (100, (1.0,), 100),
        (0.03, (1.0,), 0.05),
        (70, (1.0, 60.0), 120),
        (3 * 2**20, (1.0, 2.0**10, 2.0**20), 5 * 2**20),
    ],
)
def test_an_axis_ends_at_a_round_number_of_a_unit(greatest, units, expected):
    assert top_of(greatest, units) == pytest.approx(expected)


@pytest.mark.parametrize("period", Period)
@pytest.mark.parametrize("minute", [0, 7, 59])
def test_each_period_has_a_few_times_below_the_axis(period, minute):
    step = timedelta(minutes=STEPS[period])
    start = NOON.replace(hour=0) + minute * step
    shown = label_places([start + number * step for number in range(MINUTES[period] // STEPS[period])])
    assert 3 <= len(shown) <= 6
    assert len({after - before for before, after in pairwise(shown)}) == 1


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [(3, 2, "+50 %"), (1, 2, "\N{MINUS SIGN}50 %"), (2, 2, "unchanged"), (2, 0, ""), (2, None, ""), (None, 2, "")],
)
def test_a_change_is_said_in_per_cent_where_there_is_something_to_compare_with(now, before, shown):
    assert change(now, before) == shown
