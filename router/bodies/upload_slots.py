"""Admission control for uploads: allocates slots, and evicts slow unproven uploads. Pure.

A sender whose signature covers the body can prove its identity only at the body's end. Until then any sender can occupy
a slot by sending slowly. So proven senders have their own slots, and unproven ones as many. Of the latter, each address
may have a few, and when all are taken, the slowest upload is aborted in favour of a new one.

Bytes are allocated like slots: a body counts by its declared size from the beginning, one of unknown size by the bytes
received. Declaring costs nothing, so no address may have more than a quarter of the bytes. No upload is aborted for a
new one that would get no slot even so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, UnavailableError

GRACE_SECONDS: Final = 10.0  # time for which a new upload is not aborted, because its rate is not known yet
PACE_SECONDS: Final = 10.0  # time constant of the average rate of an upload: bytes received long ago do not count
RETRY_SECONDS: Final = 5

SENDER_SHARE: Final = 4
"""Divisor: an address may have one part in so many of the unproven senders' bytes.

By default that is 1 GiB, the maximum size of a body.
"""


@attrs.define(eq=False, repr=False)
class UploadSlot:
    """A slot, taken by one upload."""

    flow_id: str
    sender: str  # identifies the sender; empty: unknown
    _size: int | None  # declared size of the body; None: unknown
    proven: bool = attrs.field(kw_only=True)  # whether the sender has proved its identity
    # called once to abort the upload; None: it can't be aborted any more
    abort: Callable[[], None] | None = attrs.field(kw_only=True)
    _began: float = attrs.field(kw_only=True)
    _last: float = attrs.field(init=False, default=attrs.Factory(lambda self: self._began, takes_self=True))
    _recent: float = attrs.field(init=False, default=0.0)  # bytes received, with a weight that decays over time
    bytes: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._size or 0, takes_self=True)
    )  # the declared size of the body, else the bytes received

    def received(self, count: int, now: float) -> None:
        if self._size is None:
            self.bytes += count
        self._recent = self._faded(now) + count
        self._last = now

    def age(self, now: float) -> float:
        return now - self._began

    def rate(self, now: float) -> float:
        return self._faded(now) / (PACE_SECONDS * -math.expm1(-max(self.age(now), 1.0) / PACE_SECONDS))

    def _faded(self, now: float) -> float:
        return self._recent * math.exp((self._last - now) / PACE_SECONDS)


class UploadSlots:
    """The upload slots of a router."""

    def __init__(self, *, most: int, most_bytes: int, now: Callable[[], float]) -> None:
        """Create `most` slots for proven senders, and as many for others, who may use half of `most_bytes` in total."""
        self._most = most
        self._most_bytes = most_bytes // 2
        self._now = now
        self._proven: set[UploadSlot] = set()
        self._unproven: set[UploadSlot] = set()
        self._by_sender: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        return len(self._proven) + len(self._unproven)

    def allocate(
        self, flow_id: str, sender: str, size: int | None, *, proven: bool, give_way: Callable[[], None]
    ) -> UploadSlot:
        """Allocate a slot, if necessary by aborting other uploads; `give_way` is called to abort this one.

        Raises:
            ExhaustedError: the flow has no free slot (`FLOW_UPLOADS_FULL`), or the sender has none
                (`SENDER_UPLOADS_FULL`); no upload was aborted.
            UnavailableError: there is no free slot (`UPLOADS_FULL`); no upload was aborted.
        """
        places = self._proven if proven else self._unproven
        if not proven and sender:
            too_many = self._by_sender[sender] >= limits.MAX_SENDER_UPLOADS
            if too_many or self._bytes_of(sender) + (size or 0) > self._most_bytes // SENDER_SHARE:
                raise _sender_full()
        for slowest in self._in_the_way(flow_id, size or 0, proven=proven):
            give_way_now = slowest.abort
            self.release(slowest)
            if give_way_now is not None:
                give_way_now()
        place = UploadSlot(flow_id, sender, size, proven=proven, abort=give_way, began=self._now())
        places.add(place)
        if not proven:
            self._by_sender[sender] += 1
        return place

    def received(self, slot: UploadSlot, count: int) -> None:
        slot.received(count, self._now())
        if slot.proven:
            return
        if slot.sender and self._bytes_of(slot.sender) > self._most_bytes // SENDER_SHARE:
            raise _sender_full()
        if _bytes(self._unproven) > self._most_bytes:
            raise uploads_full()

    def release(self, slot: UploadSlot) -> None:
        slot.abort = None
        self._proven.discard(slot)
        if slot in self._unproven:
            self._unproven.discard(slot)
            self._by_sender[slot.sender] -= 1
            if not self._by_sender[slot.sender]:
                del self._by_sender[slot.sender]

    def _in_the_way(self, flow_id: str, size: int, *, proven: bool) -> list[UploadSlot]:
        places = self._proven if proven else self._unproven
        slowest = [] if proven else self._slowest()
        of_flow = [each for each in slowest if each.flow_id == flow_id]
        excess = sum(each.flow_id == flow_id for each in places) + 1 - limits.MAX_FLOW_UPLOADS
        if excess > len(of_flow):
            raise ExhaustedError(
                "too many uploads to this flow; try again", reason="FLOW_UPLOADS_FULL", retry_after=RETRY_SECONDS
            )
        chosen = of_flow[: max(excess, 0)]
        others = iter([each for each in slowest if each not in chosen])
        count = len(places) - len(chosen)
        total = 0 if proven else _bytes(places) + size - _bytes(chosen)
        while count >= self._most or total > self._most_bytes:
            other = next(others, None)
            if other is None:
                raise uploads_full()
            chosen.append(other)
            count -= 1
            total -= other.bytes
        return chosen

    def _slowest(self) -> Sequence[UploadSlot]:
        """Return the unproven uploads that may be aborted, slowest first."""
        now = self._now()
        candidates = [each for each in self._unproven if each.abort is not None and each.age(now) >= GRACE_SECONDS]
        return sorted(candidates, key=lambda each: each.rate(now))

    def _bytes_of(self, sender: str) -> int:
        return _bytes(each for each in self._unproven if each.sender == sender)


def _bytes(places: Iterable[UploadSlot]) -> int:
    return sum(place.bytes for place in places)


def _sender_full() -> FlowhookError:
    return ExhaustedError(
        "too many uploads by this sender; try again", reason="SENDER_UPLOADS_FULL", retry_after=RETRY_SECONDS
    )


def uploads_full() -> FlowhookError:
    return UnavailableError("too many uploads; try again", reason="UPLOADS_FULL", retry_after=RETRY_SECONDS)
