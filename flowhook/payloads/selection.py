"""The part of a body that somebody looks at, so that a large one need not travel whole from where it is parsed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from flowhook.payloads.parsing import parse

Selection: TypeAlias = dict[str, Any] | None
"""Members by name, each with what is selected of it; None: all of it. An empty one selects nothing."""


def selection_of(paths: Iterable[Sequence[str | int]]) -> Selection:
    """Return what is looked at by paths: their first names. From an index on, a value is selected as a whole."""
    selected: dict[str, Any] = {}
    for path in paths:
        names = _leading_names(path)
        if not names:
            return None
        place: Selection = selected
        for name in names[:-1]:
            if place is None:
                break
            place = place.setdefault(name, {})
        if place is not None:  # else all of it is selected already
            place[names[-1]] = None
    return selected


def _leading_names(path: Sequence[str | int]) -> list[str]:
    names = []
    for step in path:
        if not isinstance(step, str):
            break
        names.append(step)
    return names


def select(value: Any, selection: Selection) -> Any:
    """Return a value without what is not selected; any path of the selection yields, or fails, as in the whole."""
    if selection is None:
        return value
    if isinstance(value, dict):
        return {name: select(value[name], inner) for name, inner in selection.items() if name in value}
    return [] if isinstance(value, list) else value if isinstance(value, bool | int | float | None) else ""


def parse_selected(content_type: bytes, headers: bytes, limit: bytes, selection: bytes, body: bytes) -> Iterator[bytes]:
    """Parse a body and yield the selected part of it as JSON; for `flowhook.offload`.

    Args:
        content_type: in UTF-8.
        headers: JSON, an array of pairs of strings, in ISO 8859-1.
        limit: bytes that the body may have when it is decompressed.
        selection: JSON.
        body: as received.

    Raises:
        InvalidError: see `parse`.
    """
    pairs = [(name, value.encode("latin-1")) for name, value in orjson.loads(headers)]
    content = parse(content_type.decode(), body, pairs, limit=int(limit))
    yield _encoded(select(content.body, orjson.loads(selection)))


def encoded_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the headers that `parse` looks at, as `parse_selected` takes them."""
    return orjson.dumps(
        [
            (name, value.decode("latin-1"))
            for name, value in headers
            if name == "content-encoding" or name.startswith("ce-")
        ]
    )


def _encoded(value: Mapping[str, Any] | Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # it reads 1024 levels and writes 254
        return json.dumps(value).encode()
