"""Memory cache of accepted events that were not dispatched yet; bounded by bytes."""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from flowhook.limits import MIB

DEFAULT_BYTES: Final = 64 * MIB


class CachedEvent(NamedTuple):
    """A serialized event and the flow revision it is pinned to."""

    flow_revision: int
    payload: bytes


@attrs.define(eq=False, repr=False)
class EventCache:
    """Caches events as long as they fit; others are read from storage when they are dispatched."""

    _max_bytes: int = DEFAULT_BYTES
    _payloads: dict[int, CachedEvent] = attrs.field(init=False, factory=dict)
    bytes: int = attrs.field(init=False, default=0)

    def put(self, seq: int, payload: CachedEvent) -> None:
        """Store an event, unless the cache is full: the older events in it are needed sooner."""
        if self.bytes + len(payload.payload) <= self._max_bytes:
            self._payloads[seq] = payload
            self.bytes += len(payload.payload)

    def pop(self, seq: int) -> CachedEvent | None:
        """Remove and return an event; None when it is not cached."""
        payload = self._payloads.pop(seq, None)
        if payload is not None:
            self.bytes -= len(payload.payload)
        return payload
