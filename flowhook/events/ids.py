"""Event IDs: `evt_` and a UUIDv7 (RFC 9562, section 5.7) in Crockford base32, lower case.

30 ASCII characters that sort by time. The last byte of the UUID is not random: it is the *slot* of the flow, a hash of
the flow's ID. The 256 slots are distributed over the shards, so the owning shard follows from an ID without a lookup.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import zlib
from functools import lru_cache
from typing import Final

from flowhook.errors import InvalidError

PREFIX: Final = "evt_"
LENGTH: Final = 30
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_ID: Final = re.compile(rf"{PREFIX}[0-7][{_ALPHABET}]{{25}}")
_VERSION_AND_VARIANT: Final = (0x7 << 76) | (0b10 << 62)
_RANDOM_MASK: Final = ((1 << 80) - 1) & ~((0xF << 76) | (0b11 << 62) | 0xFF)
_RANDOM_BYTES: Final = 10  # of each ID
_DRAWN_AT_ONCE: Final = 512  # IDs for which random bytes are drawn by one system call
_drawn: list[bytes] = []
os.register_at_fork(after_in_child=_drawn.clear)  # a forked process must not use the same ones


def slot_of(flow_id: str) -> int:
    """Return the slot of a flow, in [0, 255]."""
    return zlib.crc32(flow_id.encode()) & 0xFF


def mint(slot: int, *, now_ms: int | None = None) -> str:
    """Return a new event ID that carries `slot` (see `slot_of`); `now_ms` is the Unix time, absent: the system's."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return _encode(slot, milliseconds, _random())


def derive(slot: int, now_ms: int, name: str) -> str:
    """Return a deterministic event ID: the same for the same arguments, so that storing under it is idempotent.

    `now_ms` is below 2^48. `name` distinguishes the ID from all others of that time; a party that can choose it freely
    can find a collision.
    """
    return _encode(slot, now_ms, hashlib.blake2b(name.encode(), digest_size=10, person=b"flowhook event").digest())


def of_schedule(flow_id: str, due_ms: int) -> str:
    """Return the ID of the event by which a flow's schedule starts it at a Unix time (ms)."""
    return derive(slot_of(flow_id), due_ms, f"schedule {flow_id}")


def is_of_schedule(event_id: str, flow_id: str) -> bool:
    return event_id == of_schedule(flow_id, time_ms_of(event_id))


def _random() -> bytes:
    try:
        return _drawn.pop()
    except IndexError:
        block = os.urandom(_RANDOM_BYTES * _DRAWN_AT_ONCE)
        _drawn.extend(block[start : start + _RANDOM_BYTES] for start in range(0, len(block), _RANDOM_BYTES))
        return os.urandom(_RANDOM_BYTES)


def _encode(slot: int, milliseconds: int, random: bytes) -> str:
    """Return the ID of a UUID: two zero bits and its 128 bits, as 26 characters of 5 bits."""
    low = (int.from_bytes(random, "big") & _RANDOM_MASK) | _VERSION_AND_VARIANT | slot
    return _encode_time(milliseconds) + _encode_low(low)


@lru_cache(64)  # many IDs are minted in one millisecond
def _encode_time(milliseconds: int) -> str:
    return PREFIX + "".join(_PAIRS[(milliseconds >> shift) & 1023] for shift in (40, 30, 20, 10, 0))


def _encode_low(value: int) -> str:
    pairs = _PAIRS
    return (
        pairs[value >> 70]
        + pairs[(value >> 60) & 1023]
        + pairs[(value >> 50) & 1023]
        + pairs[(value >> 40) & 1023]
        + pairs[(value >> 30) & 1023]
        + pairs[(value >> 20) & 1023]
        + pairs[(value >> 10) & 1023]
        + pairs[value & 1023]
    )


def decode(event_id: str) -> int:
    """Return the UUID of an ID; InvalidError: it is not an event ID of Flowhook (`EVENT_ID_INVALID`)."""
    _check(event_id)
    return int(event_id[len(PREFIX) :].translate(_BASE_32), 32)


def slot_of_event(event_id: str) -> int:
    _check(event_id)
    return (_VALUES[event_id[-2]] << 5 | _VALUES[event_id[-1]]) & 0xFF


def _check(event_id: str) -> None:
    if _ID.fullmatch(event_id):
        return
    what = "an event ID starts with a digit below 8"
    if len(event_id) != LENGTH or not event_id.startswith(PREFIX):
        what = "an event ID is evt_ and 26 characters"
    elif unknown := [char for char in event_id[len(PREFIX) :] if char not in _VALUES]:
        what = f"an event ID can't contain the character {unknown[0]!r}"
    raise InvalidError(what, reason="EVENT_ID_INVALID")


def time_ms_of(event_id: str) -> int:
    """Return the time at which an ID was minted, in Unix milliseconds; errors as of `decode`."""
    return decode(event_id) >> 80
