"""Numbered lines of a text, with problems below them."""

from __future__ import annotations

from admin.console.apply import AROUND, MAX_LINES, numbered
from operations.flows import ListedProblem


def problem(line):
    return ListedProblem(line, "do", f"wrong in {line}", "VALUE_TYPE")


def shown(text, *lines):
    return [
        (line.number, line.text, [each.line for each in line.problems], line.skipped)
        for line in numbered(text, [problem(line) for line in lines])
    ]


def test_a_short_text_is_shown_whole():
    assert shown("a\nb\n", 2, 2, 0) == [(1, "a", [], 0), (2, "b", [2, 2], 0)]
    assert shown("", 1) == [(1, "", [1], 0)]


def test_a_problem_behind_the_end_is_shown_at_the_last_line():
    assert shown("a\nb", 9) == [(1, "a", [], 0), (2, "b", [9], 0)]


def test_of_a_long_text_the_lines_around_problems_are_shown():
    text = "\n".join(map(str, range(1, 200_001)))
    lines = shown(text, 2, 1000, 200_000)
    assert [number for number, _, _, _ in lines] == [
        *range(1, 2 + AROUND + 1),
        *range(1000 - AROUND, 1000 + AROUND + 1),
        *range(200_000 - AROUND, 200_001),
    ]
    assert [(number, skipped) for number, _, _, skipped in lines if skipped] == [(995, 987), (199_995, 198_989)]


def test_the_limit_is_not_long():
    assert len(shown("\n" * (MAX_LINES - 1) + "x")) == MAX_LINES
