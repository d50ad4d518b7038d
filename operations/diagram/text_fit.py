"""Estimates the width of text, and truncates it to a width: a server knows no fonts."""

from __future__ import annotations

import unicodedata
from typing import Final

ELLIPSIS: Final = "…"
MONOSPACED: Final = 0.61  # width of a character of a monospaced font, in em
_NARROW: Final = frozenset("fijlrtI.,:;'|!()[]{}/\\-` \"")
_BROAD: Final = frozenset("mwMW@%")
_WIDE: Final = 1.25  # width of an East Asian character or an emoji, in em, with room for fonts that are wider


def width(text: str, size: float, *, mono: bool = False) -> float:
    """Return the estimated width of text in pixels, rather too large than too small; `size` is that of the font."""
    return size * sum(_em(character, mono=mono) for character in text)


def fit(text: str, pixels: float, size: float, *, mono: bool = False) -> str:
    """Return a text on one line, truncated to a width."""
    line = " ".join(text[: 4 * int(pixels)].split())  # no character is narrower than a quarter of a pixel
    if width(line, size, mono=mono) <= pixels:
        return line
    room = pixels - size
    for position, character in enumerate(line):
        room -= size * _em(character, mono=mono)
        if room < 0:
            return line[:position].rstrip() + ELLIPSIS
    return line


def _em(character: str, *, mono: bool) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return _WIDE
    if unicodedata.combining(character):
        return 0.0
    if mono:
        return MONOSPACED
    if character in _NARROW:
        return 0.36
    if character in _BROAD:
        return 0.95
    return 0.7 if character.isupper() else 0.58
