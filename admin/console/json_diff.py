"""Compares two JSON texts line by line; pure."""

from __future__ import annotations

import difflib
from typing import Final, NamedTuple

MAX_LINES: Final = 500  # lines of a text that are compared: the time grows with the square
CONTEXT: Final = 3  # equal lines around a difference


class DiffLine(NamedTuple):
    """A line of a unified diff; `change` is `added`, `removed`, `same` or `gap` (equal lines are left out)."""

    change: str
    text: str


def diff_lines(before: str, after: str) -> list[DiffLine]:
    """Return the differing lines of two texts with some of those around them; none if the texts are equal.

    Only the first `MAX_LINES` of each are compared.
    """
    old, new = before.split("\n")[:MAX_LINES], after.split("\n")[:MAX_LINES]
    lines: list[DiffLine] = []
    for line in list(difflib.unified_diff(old, new, lineterm="", n=CONTEXT))[2:]:
        match line[0]:
            case "@":
                lines.append(DiffLine("gap", "…"))
            case "+":
                lines.append(DiffLine("added", line[1:]))
            case "-":
                lines.append(DiffLine("removed", line[1:]))
            case _:
                lines.append(DiffLine("same", line[1:]))
    return lines[1:] if lines and lines[0].change == "gap" else lines
