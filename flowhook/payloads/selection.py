"""Projection of parsed bodies: reduces a large body to the parts that expressions read, before it is sent on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import orjson

Selection: TypeAlias = dict[str, Any] | None
"""JSON: `names`, the selected members of an object with a selection for each; `first` and `last`, how many items at the
ends of an array are selected, and `items`, the selection for each of them. All are optional; None selects the whole
value."""


def selection_of(paths: Iterable[Sequence[str | int]]) -> Selection:
    """Return the selection of all values that paths read."""
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
    """Reduce a value to a selection, so that each path of the selection has the same result, or error, as before."""
    if selection is None:
        return value
    if isinstance(value, dict):
        names = selection.get("names", {})
        return {name: select(value[name], inner) for name, inner in names.items() if name in value}
    if isinstance(value, list):
        first, last = selection.get("first", 0), selection.get("last", 0)
        selected = value if len(value) <= first + last else value[:first] + value[len(value) - last :]
        return [select(item, selection.get("items", {})) for item in selected]
    return value if isinstance(value, bool | int | float | None) else ""


def encode_json(value: Any) -> bytes:
    """Encode a value as JSON, whatever its depth of nesting."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # orjson reads 1024 levels of nesting, but writes 254
        return json.dumps(value).encode()
