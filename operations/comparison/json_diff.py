"""Finds the differences of two JSON values, in the order of the first one.

Source: RFC 6901, JSON Pointer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from flowhook.json.verbatim import JsonNumber

MAX_DEPTH: Final = 64  # levels that paths have; what differs below is reported as a difference of the value there
MAX_SHOWN: Final = 200  # characters of a value that are shown
MAX_PATH: Final = 500  # characters of a path that are shown
_ABSENT: Final = object()
_END: Final = object()

# the path of the value around, and the name or index in it: a list that all values of it share
_Path = tuple[Any, str] | None


class DifferenceKind(StrEnum):
    """What differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference at a path."""

    kind: DifferenceKind  # what differs
    path: str  # JSON Pointer; empty for the whole value
    first: str  # JSON of the first value, cut with `…`; empty if absent
    second: str  # the same of the second value


def find_differences(first: Any, second: Any) -> Iterator[Difference]:
    """Yield the differences of two values of `verbatim_json.loads`. Arrays are compared by index.

    Does not recurse, and takes no more memory than the values.
    """
    pending: list[tuple[_Path, int, Any, Any]] = [(None, 0, first, second)]
    while pending:
        path, depth, one, other = pending.pop()
        if depth < MAX_DEPTH or not isinstance(one, dict | list) or type(one) is not type(other):
            children = _children(one, other)
            if children is not None:
                pending += [((path, name), depth + 1, left, right) for name, left, right in reversed(children)]
            elif type(one) is not type(other) or one != other:
                yield _difference(path, one, other)
        elif _dump(one, None) != _dump(other, None):
            yield _difference(path, one, other)


def _children(one: Any, other: Any) -> list[tuple[str, Any, Any]] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        return [(name, one.get(name, _ABSENT), other.get(name, _ABSENT)) for name in names]
    if isinstance(one, list) and isinstance(other, list):
        missing = len(one) - len(other)
        left, right = [*one, *[_ABSENT] * -missing], [*other, *[_ABSENT] * missing]
        return [(str(index), *pair) for index, pair in enumerate(zip(left, right, strict=True))]
    return None


def _difference(path: _Path, one: Any, other: Any) -> Difference:
    if one is _ABSENT:
        kind = DifferenceKind.ADDED
    else:
        kind = DifferenceKind.REMOVED if other is _ABSENT else DifferenceKind.CHANGED
    return Difference(kind, _pointer(path), _dump(one, MAX_SHOWN), _dump(other, MAX_SHOWN))


def _pointer(path: _Path) -> str:
    names = []
    while path is not None:
        path, name = path
        names.append(name.replace("~", "~0").replace("/", "~1"))
    text = "".join(f"/{name}" for name in reversed(names)).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_PATH else f"{text[:MAX_PATH]}…"


def _dump(value: Any, most: int | None) -> str:
    """Return a value as JSON, cut after `most` characters; it is not written any further than that."""
    parts: list[str] = []
    length = 0
    for part in _write(value):
        parts.append(part)
        length += len(part)
        if most is not None and length > most:
            break
    text = "".join(parts)
    return text if most is None or len(text) <= most else f"{text[:most]}…"


def _write(value: Any) -> Iterator[str]:
    pending: list[Any] = [iter((value,))]
    closing: list[str] = [""]
    empty = [True]
    while pending:
        item: Any = next(pending[-1], _END)
        if item is _END:
            pending.pop()
            empty.pop()
            yield closing.pop()
            continue
        if not empty[-1]:
            yield ","
        empty[-1] = False
        if closing[-1] == "}":
            yield f"{_string(item[0])}:"
            item = item[1]
        if isinstance(item, dict | list):
            pending.append(iter(item.items() if isinstance(item, dict) else item))
            closing.append("}" if isinstance(item, dict) else "]")
            empty.append(True)
            yield "{" if isinstance(item, dict) else "["
        else:
            yield _scalar(item)


def _scalar(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if isinstance(value, JsonNumber):
        return value.text
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()  # half a surrogate pair
