"""Compares two texts by line, in bounded time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

# lines of either text that are compared, apart from those with which both begin and end; with more, all of them count
# as replaced. difflib takes quadratic time on some texts: about a second for as many lines
MAX_COMPARED: Final = 2000
CONTEXT: Final = 3  # unchanged lines shown around a change


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a unified diff: `@` is the head of a group of changes, as in `-3,7 +3,9`; the text has no newline."""

    mark: Literal["@", " ", "-", "+"]
    text: str

    def __str__(self) -> str:
        return f"@@ {self.text} @@" if self.mark == "@" else f"{self.mark}{self.text}"


def diff(old: str, new: str) -> Iterator[DiffLine]:
    """Return the lines of a unified diff without its first two; none if the texts have the same lines.

    Source: POSIX.1-2024, diff, "Diff -u Output Format".
    """
    return diff_lines(*(text.removesuffix("\n").split("\n") if text else [] for text in (old, new)))


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[DiffLine]:
    if before == after:
        return
    for group in _Matcher(before, after).get_grouped_opcodes(CONTEXT):
        (_, start, _, new_start, _), (_, _, end, _, new_end) = group[0], group[-1]
        yield DiffLine("@", f"-{_range(start, end)} +{_range(new_start, new_end)}")
        for tag, low, high, new_low, new_high in group:
            if tag == "equal":
                yield from (DiffLine(" ", line) for line in before[low:high])
            else:
                yield from (DiffLine("-", line) for line in before[low:high])
                yield from (DiffLine("+", line) for line in after[new_low:new_high])


class _Matcher(SequenceMatcher[str]):
    """Compares what lies between the lines with which both texts begin and end, in bounded time."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__()  # it would look at all lines at once, however many there are
        self._texts = (before, after)

    def get_opcodes(self) -> list[Any]:
        before, after = self._texts
        shorter = min(len(before), len(after))
        head = next((number for number in range(shorter) if before[number] != after[number]), shorter)
        tail = next(
            (number for number in range(shorter - head) if before[-1 - number] != after[-1 - number]), shorter - head
        )
        end, new_end = len(before) - tail, len(after) - tail
        inner: list[Any] = []
        if max(end, new_end) - head > MAX_COMPARED:
            inner = [("replace", 0, end - head, 0, new_end - head)]
        elif max(end, new_end) > head:
            inner = SequenceMatcher(None, before[head:end], after[head:new_end]).get_opcodes()
        moved = [(tag, *(number + head for number in numbers)) for tag, *numbers in inner]
        return [("equal", 0, head, 0, head), *moved, ("equal", end, len(before), new_end, len(after))]


def _range(low: int, high: int) -> str:
    """Return a range of lines as the head of a group has it: from 1, or the line before an empty one."""
    count = high - low
    return f"{low + 1 if count else low}" if count == 1 else f"{low + 1 if count else low},{count}"
