"""Places for bodies that are being uploaded: who gets one, and who gives way; pure.

A sender whose signature covers the body can prove who it is only at the body's end. Until then it may be anybody, who
holds a place for as long as it sends a little. So senders that have proved who they are have places of their own, as
many; of those that have not each address has a few and, when all are taken, the slowest gives way to a new one.

Bytes are taken as places are: a body counts from its beginning by the size that was declared, one of unknown size by
what has come of it. Declaring costs nothing, so no address has more than a quarter of the bytes; and nobody has to give
way for one that gets no place even so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, UnavailableError

GRACE_SECONDS: Final = 10.0
"""For which an upload gives way to none: what it is worth shows only then."""

PACE_SECONDS: Final = 10.0
"""Over which the rate of an upload is taken: what came long ago makes up for nothing."""

RETRY_SECONDS: Final = 5

SENDER_SHARE: Final = 4
"""An address has this part of the bytes of unproven senders: by default 1 GiB, which is as much as a body may have."""


class Place:
    """One upload.

    Attributes:
        flow_id: that it is for.
        sender: what tells the sender from others; empty: nothing does.
        proven: whether the sender has proved who it is.
        bytes: that it has, or will have.
        give_way: is called, once, when it has to end; None: it can't any more.
    """

    __slots__ = ("_began", "_last", "_recent", "_size", "bytes", "flow_id", "give_way", "proven", "sender")

    def __init__(
        self, flow_id: str, sender: str, size: int | None, *, proven: bool, give_way: Callable[[], None], now: float
    ) -> None:
        self.flow_id = flow_id
        self.sender = sender
        self.proven = proven
        self.bytes = size or 0
        self.give_way: Callable[[], None] | None = give_way
        self._size = size
        self._began = self._last = now
        self._recent = 0.0  # bytes received, each of which counts for less with time

    def received(self, count: int, now: float) -> None:
        """Note that so many bytes came."""
        if self._size is None:
            self.bytes += count
        self._recent = self._faded(now) + count
        self._last = now

    def age(self, now: float) -> float:
        """Return for how many seconds it has been there."""
        return now - self._began

    def rate(self, now: float) -> float:
        """Return bytes a second, of late."""
        return self._faded(now) / (PACE_SECONDS * -math.expm1(-max(self.age(now), 1.0) / PACE_SECONDS))

    def _faded(self, now: float) -> float:
        return self._recent * math.exp((self._last - now) / PACE_SECONDS)


class UploadPlaces:
    """All places.

    Attributes:
        under_way: how many uploads there are.
    """

    def __init__(self, *, most: int, most_bytes: int, now: Callable[[], float]) -> None:
        """Have `most` places for proven senders, and as many for others, who may have half of `most_bytes` in all."""
        self._most = most
        self._most_bytes = most_bytes // 2
        self._now = now
        self._proven: set[Place] = set()
        self._unproven: set[Place] = set()
        self._by_sender: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """How many uploads there are."""
        return len(self._proven) + len(self._unproven)

    def take(self, flow_id: str, sender: str, size: int | None, *, proven: bool, give_way: Callable[[], None]) -> Place:
        """Return a place, which may be that of another upload, which gives way.

        Args:
            flow_id: that the body is for.
            sender: what tells the sender from others that are not proven.
            size: bytes that the body will have; None: nobody knows.
            proven: whether the sender has proved who it is.
            give_way: has the upload end, should it have to.

        Raises:
            ExhaustedError: the flow has no place (`FLOW_UPLOADS_FULL`), or the sender none (`SENDER_UPLOADS_FULL`);
                nobody gave way.
            UnavailableError: there is none (`UPLOADS_FULL`); nobody gave way.
        """
        places = self._proven if proven else self._unproven
        if not proven and sender:
            self._check_sender(sender, size or 0)
        for slowest in self._in_the_way(flow_id, size or 0, proven=proven):
            give_way_now = slowest.give_way
            self.release(slowest)
            if give_way_now is not None:
                give_way_now()
        place = Place(flow_id, sender, size, proven=proven, give_way=give_way, now=self._now())
        places.add(place)
        if not proven:
            self._by_sender[sender] += 1
        return place

    def received(self, place: Place, count: int) -> None:
        """Note that so many bytes of an upload came.

        Raises:
            ExhaustedError: its sender has no room for so many (`SENDER_UPLOADS_FULL`).
            UnavailableError: there is no room for so many (`UPLOADS_FULL`).
        """
        place.received(count, self._now())
        if place.proven:
            return
        if place.sender and self._bytes_of(place.sender) > self._most_bytes // SENDER_SHARE:
            raise _sender_full()
        if _bytes(self._unproven) > self._most_bytes:
            raise full()

    def release(self, place: Place) -> None:
        """Give a place back; without effect if it was."""
        place.give_way = None
        self._proven.discard(place)
        if place in self._unproven:
            self._unproven.discard(place)
            self._by_sender[place.sender] -= 1
            if not self._by_sender[place.sender]:
                del self._by_sender[place.sender]

    def _check_sender(self, sender: str, size: int) -> None:
        if self._by_sender[sender] >= limits.MAX_SENDER_UPLOADS:
            raise _sender_full()
        if self._bytes_of(sender) + size > self._most_bytes // SENDER_SHARE:
            raise _sender_full()

    def _in_the_way(self, flow_id: str, size: int, *, proven: bool) -> list[Place]:
        """Return which uploads have to end so that there is a place for one of so many bytes: the slowest ones.

        Raises:
            FlowhookError: it would get no place even so; see `take`.
        """
        places = self._proven if proven else self._unproven
        slowest = [] if proven else self._slowest()
        of_flow = [each for each in slowest if each.flow_id == flow_id]
        excess = sum(each.flow_id == flow_id for each in places) + 1 - limits.MAX_FLOW_UPLOADS
        if excess > len(of_flow):
            raise ExhaustedError(
                "too many bodies are uploaded to this flow", reason="FLOW_UPLOADS_FULL", retry_after=RETRY_SECONDS
            )
        chosen = of_flow[: max(excess, 0)]
        others = iter([each for each in slowest if each not in chosen])
        count = len(places) - len(chosen)
        total = 0 if proven else _bytes(places) + size - _bytes(chosen)
        while count >= self._most or total > self._most_bytes:
            other = next(others, None)
            if other is None:
                raise full()
            chosen.append(other)
            count -= 1
            total -= other.bytes
        return chosen

    def _slowest(self) -> Sequence[Place]:
        """Return the unproven uploads that may have to end, the slowest first."""
        now = self._now()
        candidates = [each for each in self._unproven if each.give_way is not None and each.age(now) >= GRACE_SECONDS]
        return sorted(candidates, key=lambda each: each.rate(now))

    def _bytes_of(self, sender: str) -> int:
        return _bytes(each for each in self._unproven if each.sender == sender)


def _bytes(places: Iterable[Place]) -> int:
    return sum(place.bytes for place in places)


def _sender_full() -> FlowhookError:
    return ExhaustedError(
        "too much is uploaded by this sender", reason="SENDER_UPLOADS_FULL", retry_after=RETRY_SECONDS
    )


def full() -> FlowhookError:
    """Return the error of an upload for which there is no place, or none any more."""
    return UnavailableError("too much is being uploaded", reason="UPLOADS_FULL", retry_after=RETRY_SECONDS)
