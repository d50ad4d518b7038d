"""Attachments of a stored event whose body is part of it, as functions for a separate process (`flowhook.sandbox`).

Only that process imports the parsers of bodies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from flowhook.payloads.parsing import Attachment


@dataclass(frozen=True, slots=True)
class ListedPart:
    """An attachment. `sha256` is in hexadecimal; `field` is that of a form, or empty."""

    index: int
    name: str
    type: str
    size: int
    sha256: str
    field: str


def list_attachments(event: bytes) -> Iterator[bytes]:
    """Yield `{index, name, type, size, sha256, field}` as JSON for each attachment; `event`: serialized."""
    for index, (name, kind, content, field) in enumerate(_attachments(event)):
        sha256 = hashlib.sha256(content).hexdigest()
        yield orjson.dumps(
            {"index": index, "name": name, "type": kind, "size": len(content), "sha256": sha256, "field": field}
        )


def read_attachment(event: bytes, index: bytes) -> Iterator[bytes]:
    """Yield the name and the content of an attachment; nothing if there is none with this index."""
    attachments, number = _attachments(event), int(index)
    if number < len(attachments):
        name, _, content, _ = attachments[number]
        yield name.encode("utf-8", "replace")
        yield content


def _attachments(event: bytes) -> Sequence[Attachment]:
    from flowhook.events.workflow_input import parse_event_body  # noqa: PLC0415 - see the module
    from flowhook.wire import convert  # noqa: PLC0415 - it imports gRPC

    return parse_event_body(convert.event_from_bytes(event)).attachments
