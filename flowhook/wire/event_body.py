"""Reads a serialized event without its body, or with the beginning of it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from flowhook import limits
from flowhook.model.random_access import RandomAccess
from flowhook.v1 import envelope_pb2

_FIELD: Final = envelope_pb2.Event.BODY_FIELD_NUMBER
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_TAG: Final = bytes([_FIELD << 3 | _LENGTH])
_HEAD_BYTES: Final = 20  # most bytes of a field's number and length
_WINDOW: Final = 64 * limits.KIB
"""Bytes that are read at a time until the body is found: header fields are before it, and few events have more."""


class EventPart(NamedTuple):
    """A serialized event."""

    event: bytes  # the event, with at most as many bytes of its body as requested
    body_offset: int  # where its body begins in the whole serialized event; 0: the event contains none
    body_size: int  # bytes of its whole body


def read_event(payload: RandomAccess, *, max_body_bytes: int) -> EventPart:
    """Read a serialized event without the rest of its body.

    Raises:
        ValueError: it is not a serialized event.
    """
    head, offset, size = _find_body(payload)
    if not size:
        return EventPart(head, 0, 0)
    beginning = payload.read(offset, min(size, max_body_bytes))
    rest = payload.read(offset + size, payload.size)
    return EventPart(b"".join((head, _TAG, _varint(len(beginning)), beginning, rest)), offset, size)


def _find_body(payload: RandomAccess) -> tuple[bytes, int, int]:
    """Return what precedes the body, and the body's offset and size; all, and twice 0 if absent."""
    data = payload.read(0, _WINDOW)
    position = 0
    while position < payload.size:
        if len(data) < min(position + _HEAD_BYTES, payload.size):
            data += payload.read(len(data), max(_WINDOW, position + _HEAD_BYTES - len(data)))
        start = position
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _read_varint(data, position)
        elif kind == _LENGTH:
            size, position = _read_varint(data, position)
            if tag >> 3 == _FIELD:
                return data[:start], position, size
            position += size
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            return _without_body(data + payload.read(len(data), payload.size)), 0, 0
    if position != payload.size:
        raise ValueError("not a serialized event")
    return data + payload.read(len(data), payload.size), 0, 0


def _without_body(serialized: bytes) -> bytes:
    """Return a serialized event with a group, having checked that it has no body.

    The router writes fields that it does not know, of whatever kind, after all others, so that a body precedes them.
    """
    try:
        if not envelope_pb2.Event.FromString(serialized).body:
            return serialized
    except DecodeError:
        pass
    raise ValueError("not a serialized event")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = shift = 0
    while position < len(data) and shift < 70:  # noqa: PLR2004 - ten bytes of seven bits
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, position
        shift += 7
    raise ValueError("not a serialized event")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - another byte follows
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
