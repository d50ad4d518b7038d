"""Differences of texts by lines."""

from __future__ import annotations

from admin.console.json_diff import MAX_LINES, diff_lines


def test_equal_texts_have_no_difference():
    assert diff_lines("{\n}", "{\n}") == []


def test_a_changed_line_is_removed_and_added_among_those_around_it():
    assert diff_lines('{\n  "a": 1\n}', '{\n  "a": 2\n}') == [
        ("same", "{"),
        ("removed", '  "a": 1'),
        ("added", '  "a": 2'),
        ("same", "}"),
    ]


def test_lines_that_look_like_marks_of_a_diff_are_text():
    assert ("added", "++ b") in diff_lines("-- a", "++ b")
    assert ("removed", "@@ x") in diff_lines("@@ x", "y")


def test_distant_differences_are_separated():
    before = [str(number) for number in range(50)]
    after = ["x", *before[1:-1], "y"]
    changes = [line.change for line in diff_lines("\n".join(before), "\n".join(after))]
    assert changes.count("gap") == 1
    assert changes[0] != "gap"


def test_only_the_first_lines_are_compared():
    assert diff_lines("\n".join(["a"] * MAX_LINES + ["b"]), "\n".join(["a"] * MAX_LINES + ["c"])) == []
