"""The part of a body that somebody looks at, so that a large one need not travel whole from where it is parsed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import orjson

Selection: TypeAlias = dict[str, Any] | None
"""JSON: `names`, the members of an object with what is selected of each; `first` and `last`, how many items of an array
at its ends, and `items`, what is selected of each. All may be missing; None selects the whole value."""


def selection_of(paths: Iterable[Sequence[str | int]]) -> Selection:
    """Return what is looked at by paths, together."""
    selection: Selection = {}
    for path in paths:
        selection = _with(selection, path)
    return selection


def _with(selection: Selection, path: Sequence[str | int]) -> Selection:
    if selection is None or not path:
        return None
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        names = selection.get("names", {})
        return {**selection, "names": {**names, step: _with(names.get(step, {}), rest)}}
    end, count = ("last", -step) if step < 0 else ("first", step + 1)
    longer = {end: max(count, selection.get(end, 0)), "items": _with(selection.get("items", {}), rest)}
    return {**selection, **longer}


def select(value: Any, selection: Selection) -> Any:
    """Return a value without what is not selected; any path of the selection yields, or fails, as in the whole."""
    if selection is None:
        return value
    if isinstance(value, dict):
        names = selection.get("names", {})
        return {name: select(value[name], inner) for name, inner in names.items() if name in value}
    if isinstance(value, list):
        first, last = selection.get("first", 0), selection.get("last", 0)
        kept = value if len(value) <= first + last else value[:first] + value[len(value) - last :]
        return [select(item, selection.get("items", {})) for item in kept]
    return value if isinstance(value, bool | int | float | None) else ""


def encoded(value: Any) -> bytes:
    """Return JSON, however deeply it is nested."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # it reads 1024 levels and writes 254
        return json.dumps(value).encode()
