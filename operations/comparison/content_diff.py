"""Compares two bodies, or two outputs: as JSON, else as text by line, else as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from flowhook.errors import InvalidError
from flowhook.json import check_value_count, verbatim
from operations.comparison.json_diff import Difference, find_differences
from operations.text_diff import diff_lines

MAX_COMPARED: Final = 1024 * 1024  # bytes of each side that are compared
MAX_VALUES: Final = 200_000  # values of a JSON text that is compared by path; one with more is compared by line
MAX_DIFFERENCES: Final = 500  # differences that are listed
MAX_LINE: Final = 500  # characters of a line that are shown
SHOWN_BYTES: Final = 32  # bytes shown from the first one that differs


class ContentFormat(StrEnum):
    """How two contents were compared."""

    EQUAL = "equal"
    """They are the same bytes."""
    JSON = "json"
    TEXT = "text"
    BINARY = "binary"
    TOO_LARGE = "too_large"
    """One of them has more than `MAX_COMPARED` bytes, so that only sizes are compared."""


@dataclass(frozen=True, slots=True)
class ContentDiff:
    """The difference of two contents."""

    format: ContentFormat  # how they were compared
    first_size: int  # bytes of the first one
    second_size: int  # bytes of the second one
    # of JSON; none if they differ in whitespace, or in the spelling of strings, only
    differences: tuple[Difference, ...] = ()
    lines: tuple[str, ...] = ()  # of text: a unified diff
    offset: int | None = None  # of bytes: of the first one that differs
    first_bytes: str = ""  # of bytes: those from there, in hexadecimal
    second_bytes: str = ""  # the same of the second one
    cut: bool = False  # whether there are more differences than are listed


def compare_content(first: bytes, second: bytes, *, sizes: tuple[int, int] | None = None) -> ContentDiff:
    """Return the difference of two contents. Blocking, for up to a second.

    Of each there are at least the first `MAX_COMPARED` + 1 bytes; `sizes` are those of the whole contents, unless they
    are whole.
    """
    first_size, second_size = sizes or (len(first), len(second))
    if max(first_size, second_size, len(first), len(second)) > MAX_COMPARED:
        return ContentDiff(ContentFormat.TOO_LARGE, first_size, second_size)
    if first == second:
        return ContentDiff(ContentFormat.EQUAL, first_size, second_size)
    one, other = _read_json(first), _read_json(second)
    if one is not None and other is not None:
        found = tuple(islice(find_differences(one[0], other[0]), MAX_DIFFERENCES + 1))
        return ContentDiff(
            ContentFormat.JSON,
            first_size,
            second_size,
            differences=found[:MAX_DIFFERENCES],
            cut=len(found) > MAX_DIFFERENCES,
        )
    try:
        before, after = (text.decode().split("\n") for text in (first, second))
    except UnicodeDecodeError:
        return _compare_bytes(first, second)
    changed = [str(each) for each in islice(diff_lines(before, after), MAX_DIFFERENCES + 1)]
    lines = tuple(each if len(each) <= MAX_LINE else f"{each[:MAX_LINE]}…" for each in changed[:MAX_DIFFERENCES])
    return ContentDiff(ContentFormat.TEXT, first_size, second_size, lines=lines, cut=len(changed) > MAX_DIFFERENCES)


def _read_json(text: bytes) -> tuple[Any] | None:
    try:
        check_value_count(text, MAX_VALUES)
        return (verbatim.loads(text),)
    except (InvalidError, ValueError):
        return None


def _compare_bytes(first: bytes, second: bytes) -> ContentDiff:
    offset = next(
        (index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
    shown = slice(offset, offset + SHOWN_BYTES)
    return ContentDiff(
        ContentFormat.BINARY,
        len(first),
        len(second),
        offset=offset,
        first_bytes=first[shown].hex(" "),
        second_bytes=second[shown].hex(" "),
    )
