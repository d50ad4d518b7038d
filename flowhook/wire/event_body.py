"""Reads a serialized event without its body, or with the beginning of it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from flowhook.model.events import RandomAccess
from flowhook.v1.envelope_pb2 import Event

_VARINT, _LENGTH = 0, 2
_FIXED_BYTES: Final = {1: 8, 5: 4}  # by wire type
_HEAD_BYTES: Final = 20  # most of a field's number and length: two varints of ten bytes of seven bits


class EventPart(NamedTuple):
    """A serialized event."""

    event: bytes  # with at most as many bytes of its body as requested
    body_offset: int  # where its body begins in the whole serialized event; 0: the event contains none
    body_size: int  # bytes of its whole body


def read_event(payload: RandomAccess, *, max_body_bytes: int) -> EventPart:
    """Read a serialized event without the rest of its body."""
    position = 0
    while position < payload.size:
        start, head = position, payload.read(position, _HEAD_BYTES)
        tag, used = _read_number(head, 0)
        kind = tag & 7
        position += used
        if kind == _VARINT:
            position = start + _read_number(head, used)[1]
        elif kind == _LENGTH:
            size, used = _read_number(head, used)
            position = start + used
            if tag >> 3 == Event.BODY_FIELD_NUMBER:
                body = Event(body=payload.read(position, min(size, max_body_bytes))).SerializeToString()
                end = position + size
                return EventPart(payload.read(0, start) + body + payload.read(end, payload.size), position, size)
            position += size
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            # a group, which is not known: the router writes such fields after all others, so that a body precedes them
            return EventPart(_checked(payload.read(0, payload.size)), 0, 0)
    if position != payload.size:
        raise ValueError("not a serialized event")
    return EventPart(payload.read(0, payload.size), 0, 0)


def with_batch(payload: bytes, others: Sequence[bytes]) -> bytes:
    """Return a serialized event with the others of its batch."""
    # a message's fields may follow each other in any order
    return payload + Event(batch=others).SerializeToString()


def _checked(serialized: bytes) -> bytes:
    try:
        if not Event.FromString(serialized).body:
            return serialized
    except DecodeError:
        pass
    raise ValueError("not a serialized event")


def _read_number(data: bytes, start: int) -> tuple[int, int]:
    """Return a varint of at most ten bytes and the position after it."""
    value = 0
    for index, byte in enumerate(data[start : start + _HEAD_BYTES // 2]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, start + index + 1
    raise ValueError("not a serialized event")
