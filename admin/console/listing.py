"""Prepares a text for a page: its lines with their numbers, and problems below the lines that they concern; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from operations.flow_check import ListedProblem

MAX_LINES: Final = 1000  # lines up to which a text is shown whole; of a longer one, those around problems
AROUND: Final = 5  # lines that are shown before and after one with problems, in a text that is not shown whole


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A line of a text. `skipped`: lines before it that are not shown."""

    number: int
    text: str
    problems: tuple[ListedProblem, ...]
    skipped: int


def numbered(text: str, problems: Sequence[ListedProblem]) -> Iterator[NumberedLine]:
    """Yield the lines of a text that are shown."""
    lines = text.removesuffix("\n").split("\n")
    found: dict[int, list[ListedProblem]] = {}
    for problem in problems:
        if problem.line:
            found.setdefault(min(problem.line, len(lines)), []).append(problem)
    near = {number for line in found for number in range(line - AROUND, line + AROUND + 1)}
    shown = range(1, len(lines) + 1) if len(lines) <= MAX_LINES else sorted(near & {*range(1, len(lines) + 1)})
    last = 0
    for number in shown:
        yield NumberedLine(number, lines[number - 1], tuple(found.get(number, ())), number - last - 1)
        last = number
