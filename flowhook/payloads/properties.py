r"""Parser of Java properties: `key=value` lines, continued by a trailing backslash, with `\uXXXX` and other escapes.

Own code, because the library javaproperties scans a continued line once for each of its physical lines.

Source: https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/Properties.html#load(java.io.Reader).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from flowhook.errors import InvalidError
from flowhook.limits import KIB
from flowhook.payloads.forms import nest_fields

MAX_BYTES: Final = 512 * KIB
"""One body, decompressed; counted in characters."""

MAX_LINES: Final = 10_000
"""Physical lines of one body, including comments and continuations."""

_SPACE: Final = " \t\f"
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_KEY: Final = re.compile(r"(?:[^\\ \t\f=:]++|\\.)*+")


def parse_properties(text: str) -> dict[str, Any]:
    """Parse properties to an object, nested by the brackets in their names as in forms.

    Raises:
        InvalidError: the text is too large (`BODY_TOO_LARGE`), has too many lines, or has an invalid escape
            (`BODY_INVALID`).
    """
    if len(text) > MAX_BYTES:
        raise InvalidError(f"properties have at most {MAX_BYTES // KIB} KiB", reason="BODY_TOO_LARGE")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n", 0, -1) >= MAX_LINES:
        raise InvalidError(f"properties have at most {MAX_LINES} lines", reason="BODY_INVALID")
    items: list[tuple[str, str]] = []
    for line in _lines(text):
        end = _end_of_key(line)
        key, value = line[:end], line[end:].lstrip(_SPACE)
        if value[:1] in ("=", ":"):
            value = value[1:].lstrip(_SPACE)
        items.append((_unescaped(key), _unescaped(value)))
    return nest_fields(items)


def _unescaped(text: str) -> str:
    """Return a key or a value with its escapes resolved; surrogates in pairs are one character."""
    if "\\" not in text:
        return text
    try:
        return _ESCAPE.sub(_character, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except ValueError:  # no hexadecimal digits, or a lone surrogate
        raise InvalidError("the properties have an invalid escape", reason="BODY_INVALID") from None


def _character(escape: re.Match[str]) -> str:
    text = escape[1]
    return chr(int(text[1:], 16)) if text[0] == "u" else _ESCAPED.get(text, text)


def _lines(text: str) -> Iterator[str]:
    """Yield logical lines: continuations joined, comments and empty lines dropped, indentation removed."""
    lines = iter(text.split("\n"))
    for each in lines:
        line = each.lstrip(_SPACE)
        if line[:1] in ("", "#", "!"):
            continue
        if line[-1] == "\\":
            pieces: list[str] = []
            while _is_continued(line):
                pieces.append(line[:-1])
                line = next(lines, "").lstrip(_SPACE)
            line = "".join((*pieces, line))
        if line:
            yield line


def _is_continued(line: str) -> bool:
    """Whether a line ends in a backslash that is not escaped itself."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _end_of_key(line: str) -> int:
    found = _KEY.match(line)
    return 0 if found is None else found.end()
