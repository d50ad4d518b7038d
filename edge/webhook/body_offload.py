"""Parses a large body in a separate process, and returns its keys and the small part of it that the edge needs.

Whatever the body contains, the edge gets at most `MAX_SELECTED_BYTES` of it back, so that its own work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.events.keys import DedupeKey, OrderKey, SearchAttributes, ShapingExpressions
from flowhook.payloads.parsing import Selection, encode_json, parse, select

# JSON of the parts of a body that responses, handshakes and delivery IDs read; if it is larger, they read nothing.
MAX_SELECTED_BYTES: Final = 64 * limits.KIB


@dataclass(frozen=True, slots=True)
class BodyQuery:
    """The parts that are needed of a body."""

    selection: Selection  # parts of the body to return
    order_by: str | None  # expression of the order key; None: not needed
    dedupe: str | None  # expression of the dedupe key; None: not needed
    search: Mapping[str, str]  # paths of the search attributes by name
    shaping: Mapping[str, str]  # expressions of the keys of shaping by name


def parse_large_body(kind: bytes, wanted: bytes, view: bytes, body: bytes) -> Iterator[bytes]:
    """Parse a `body` as received; yield its selected part and its keys: for order, dedupe, search and shaping.

    `kind` is a JSON array of the Content-Type, the headers that describe the body (pairs of strings in ISO 8859-1), and
    the maximum size in bytes of the decompressed body; `wanted` is JSON of `BodyQuery`, and `view` of the value of `.`
    without the body. Raises InvalidError as `parse` does.
    """
    query = BodyQuery(**orjson.loads(wanted))
    content_type, headers, limit = orjson.loads(kind)
    pairs = [(name, value.encode("latin-1")) for name, value in headers]
    content = parse(content_type, body, pairs, limit=limit).body
    selected = encode_json(select(content, query.selection))
    yield selected if len(selected) <= MAX_SELECTED_BYTES else b"null"
    seen: dict[str, Any] = {**orjson.loads(view), "body": content}
    yield b"" if query.order_by is None else OrderKey(query.order_by).of_view(seen).encode()
    yield b"" if query.dedupe is None else DedupeKey(query.dedupe).of_view(seen).encode("utf-8", "replace")
    yield orjson.dumps(SearchAttributes(query.search).of_view(seen))
    yield ShapingExpressions(query.shaping).of_view(seen).pack().encode() if query.shaping else b""
