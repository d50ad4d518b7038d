"""Diffs of texts: they turn the one into the other, and take a bounded time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.comparison import MAX_COMPARED_LINES, diff

LINES = st.lists(st.sampled_from("abcde"), max_size=40).map(lambda lines: "".join(f"{line}\n" for line in lines))


def lines(text):
    return text.removesuffix("\n").split("\n") if text else []


def patched(old, changes):
    """Apply a unified diff, and check that it says what it replaces."""
    before, result, position = lines(old), [], 0
    for change in changes:
        if change.mark == "@":
            start, count = re.fullmatch(r"-(\d+)(?:,(\d+))? \+\d+(?:,\d+)?", change.text).groups()
            start = int(start) - (count != "0")
            result += before[position:start]
            position = start
        elif change.mark == "+":
            result.append(change.text)
        else:
            assert before[position] == change.text
            position += 1
            result += [change.text] if change.mark == " " else []
    return result + before[position:]


@given(LINES, LINES)
def test_a_diff_turns_one_text_into_the_other(old, new):
    changes = list(diff(old, new))
    assert patched(old, changes) == lines(new)
    assert bool(changes) == (lines(old) != lines(new))


def test_a_diff_has_three_lines_around_changes_and_groups_those_that_are_close():
    old = "".join(f"{number}\n" for number in range(1, 31))
    new = old.replace("5\n", "five\n", 1).replace("11\n", "").replace("29\n", "29\n29b\n")
    assert [str(line) for line in diff(old, new)] == [
        "@@ -2,13 +2,12 @@", " 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8", " 9", " 10", "-11", " 12", " 13", " 14",
        "@@ -27,4 +26,5 @@", " 27", " 28", " 29", "+29b", " 30",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a\n", "a", []),
        ("", "", []),
        ("", "a\n", ["@@ -0,0 +1 @@", "+a"]),
        ("a\n", "", ["@@ -1 +0,0 @@", "-a"]),
        ("a\n", "b\n", ["@@ -1 +1 @@", "-a", "+b"]),
    ],
)
def test_small_texts_are_compared(old, new, shown):
    assert [str(line) for line in diff(old, new)] == shown


def test_what_is_too_much_to_compare_counts_as_replaced_but_for_the_ends():
    def text(name):
        return "same\n" + "".join(f"{number % 199}\n{name}{number}\n" for number in range(100_000)) + "end\n"

    started = time.process_time()
    changes = list(diff(text("a"), text("b")))
    assert time.process_time() - started < 5
    marks = [change.mark for change in changes]
    assert marks == ["@", " ", " ", *"-" * 199_999, *"+" * 199_999, " "]


def test_texts_at_the_limit_are_compared():
    old = "".join(f"{number}\n" for number in range(MAX_COMPARED_LINES))
    new = old.replace("7\n", "seven\n")
    changes = [change.mark for change in diff(old, new)]
    assert changes.count("-") == changes.count("+") == 200
