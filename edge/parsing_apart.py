"""What an edge's process apart does with a large body: parses it, makes its keys, and returns the little that is left.

Whatever the body holds, the edge gets no more than `MAX_SELECTED_BYTES` back, so that its own work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.dedupe_key import DedupeKey
from flowhook.order_key import OrderKey
from flowhook.payloads import Selection, parse, select
from flowhook.payloads.selection import encoded

MAX_SELECTED_BYTES: Final = 64 * limits.KIB
"""JSON of what answers, handshakes and delivery IDs look at in a body; of one with more they see nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a body.

    Attributes:
        selection: what is looked at in it.
        order_by: expression of the order key; None: none is asked for.
        dedupe: expression of the dedupe key; None: none is asked for.
    """

    selection: Selection
    order_by: str | None
    dedupe: str | None


def read_body(kind: bytes, wanted: bytes, view: bytes, body: bytes) -> Iterator[bytes]:
    """Parse a body and yield the selected part of it as JSON, its order key and its dedupe key; for `flowhook.offload`.

    Args:
        kind: JSON, an array: the Content-Type; the headers that say something of the body, pairs of strings in
            ISO 8859-1; and the bytes that it may have when it is decompressed.
        wanted: JSON of `Wanted`.
        view: JSON of what `.` is, but for the body.
        body: as received.

    Raises:
        InvalidError: see `parse`.
    """
    asked = Wanted(**orjson.loads(wanted))
    content_type, headers, limit = orjson.loads(kind)
    pairs = [(name, value.encode("latin-1")) for name, value in headers]
    content = parse(content_type, body, pairs, limit=limit).body
    selected = encoded(select(content, asked.selection))
    yield selected if len(selected) <= MAX_SELECTED_BYTES else b"null"
    seen: dict[str, Any] = {**orjson.loads(view), "body": content}
    yield b"" if asked.order_by is None else OrderKey(asked.order_by).of_view(seen).encode()
    yield b"" if asked.dedupe is None else DedupeKey(asked.dedupe).of_view(seen).encode("utf-8", "replace")
