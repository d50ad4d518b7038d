"""The picture of the timeline: sizes as attributes, text as text, an axis of round numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from admin.console.timeline import LABELS, MAX_BARS, WIDTH, Bar, draw_timeline, tick_step
from operations.diagram.reading import milliseconds_text

START = 1_700_000_000_000


def drawn(*bars, now=START + 1000):
    return ET.fromstring(str(draw_timeline(bars, now)))


def rectangles(*bars, **more):
    return [
        (each.get("class"), float(each.get("x")), float(each.get("width")))
        for each in drawn(*bars, **more).iter("rect")
    ]


def test_bars_stand_where_they_began_and_are_as_long_as_they_took():
    queued = Bar("queue", "queued", START, START + 250, waits=True)
    task = Bar("task", "completed", START + 250, START + 1000)
    (first, second) = rectangles(queued, task)
    assert first[:2] == ("bar queued waits", LABELS)
    assert second[0] == "bar completed"
    assert second[1] == pytest.approx(first[1] + first[2], abs=0.2)
    assert second[2] == pytest.approx(3 * first[2], abs=1)
    assert second[1] + second[2] <= WIDTH


def test_a_task_that_runs_reaches_to_the_present_and_says_so():
    svg = drawn(Bar("task", "running", START, None), now=START + 500)
    assert "task: running, 500 ms so far" in [each.text for each in svg.iter("title")]


def test_a_row_may_have_several_intervals_whose_lengths_are_added():
    row = Bar("queue", "queued", START, START + 250, waits=True, others=((START + 500, None),))
    first, second = rectangles(row)
    assert second[2] == pytest.approx(2 * first[2], abs=1)
    assert second[1] + second[2] <= WIDTH
    assert "queue: queued, waits, 750 ms so far" in [each.text for each in drawn(row).iter("title")]


def test_an_attempt_is_named_by_its_label_and_not_by_its_colour():
    svg = drawn(Bar("runner attempt 1: its runner was lost", "faulted", START, START + 1000, is_attempt=True))
    assert [each.text for each in svg.iter("title")] == ["runner attempt 1: its runner was lost, 1 s"]
    assert [each.get("class") for each in svg.iter("rect")] == ["bar faulted attempt"]


def test_a_task_without_duration_is_visible():
    ((_, _, width),) = rectangles(Bar("task", "completed", START, START))
    assert width >= 1


def test_later_tries_are_marks():
    svg = drawn(Bar("task", "completed", START, START + 1000, tries_ms=(START + 500,)))
    (mark,) = [each for each in svg.iter("line") if each.get("class") == "try"]
    assert LABELS < float(mark.get("x1")) < WIDTH


def test_names_are_text_and_nothing_is_styled():
    text = str(draw_timeline([Bar('<script>"&', "completed", START, None, link='/x?a="&b')], START))
    assert "<script>" not in text
    assert "style=" not in text
    svg = ET.fromstring(text)
    assert [each.text for each in svg.iter("text") if each.get("class") == "label"] == ['<script>"&']
    assert [each.get("href") for each in svg.iter("a")] == ['/x?a="&b']


def test_there_is_no_picture_of_nothing_and_a_long_one_is_cut():
    assert draw_timeline([], START) == ""
    assert len(rectangles(*(Bar("t", "completed", START, START + 1) for _ in range(MAX_BARS + 5)))) == MAX_BARS


@cases(
    ("length", "step"),
    [(1, 1), (1000, 200), (4000, 1000), (7000, 2000), (60_000, 20_000), (3_600_000, 1_200_000), (10**9, 259_200_000)],
)
def test_an_axis_has_a_handful_of_round_ticks(length, step):
    assert tick_step(length) == step


@given(st.integers(1, 10**12))
def test_an_axis_has_never_many_ticks(length):
    assert 0 < length // tick_step(length) <= 5


@cases(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (999.7, "1000 ms"),
        (1500, "1.5 s"),
        (90_000, "1.5 min"),
        (5_400_000, "1.5 h"),
        (86_400_000_000, "1000 d"),
    ],
)
def test_a_duration_has_one_unit(milliseconds, text):
    assert milliseconds_text(milliseconds) == text


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9) | st.none(), st.text(max_size=40))))
def test_all_numbers_are_within_the_picture(rows):
    bars = [
        Bar(re.sub(r"[^\x20-\x7e]", "", label), "completed", START + begin, None if end is None else START + end)
        for begin, end, label in rows
    ]
    if bars:
        for _, x, width in rectangles(*bars):
            assert x >= LABELS
            assert x + width <= WIDTH


@cases("length", [150, 152, 1000, 4_321, 59_999, 86_400_000])
def test_no_label_of_the_axis_is_cut_off(length):
    picture = draw_timeline([Bar("a", "completed", 0, length)], 0)
    labels = re.findall(r'<text class="axis" x="([\d.]+)" y="14" text-anchor="(\w+)">([^<]+)</text>', picture)
    assert labels[0][1:] == ("start", "0 ms")
    for x, anchor, text in labels:
        assert float(x) + (9 * len(text) if anchor == "start" else 0) <= WIDTH
    assert labels[-1][1] == "end" or length % tick_step(length)
