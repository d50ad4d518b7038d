"""Streams of bodies stored separately from events: uploads (UploadBody), reads (ReadAttachment, ReadBody).

A sender whose signature covers the body can prove its identity only at the body's end. Until then any sender can occupy
a slot by sending slowly. So proven senders have their own slots, and unproven ones as many. Of the latter, each address
may have a few, and when all are taken, the slowest upload is aborted in favour of a new one.

Bytes are allocated like slots: a body counts by its declared size from the beginning, one of unknown size by the bytes
received. Declaring costs nothing, so no address may have more than a quarter of the bytes. No upload is aborted for a
new one that would get no slot even so.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from operator import methodcaller
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, NotFoundError, UnavailableError
from flowhook.sharing import Limit, SharedLimit, current_principal
from flowhook.v1 import envelope_pb2
from flowhook.v1 import ingest_service_pb2 as pb
from flowhook.wire.event_body import read_event
from router.calls import error_mapping
from router.flows.admission import AdmissionControl
from router.storage.bodies import BodyStore, BodyUpload, StoredBody
from router.storage.shard_state import ShardState

START_SECONDS: Final = 10.0  # timeout for the first message of an upload
# timeout for the next message of an upload. Edges enforce a minimum rate on senders, and give up earlier.
SILENCE_SECONDS: Final = 120.0
MAX_CHUNK_BYTES: Final = 1 * limits.MIB

MAX_SENDER_LENGTH: Final = 64  # characters of the name that identifies a sender
GRACE_SECONDS: Final = 10.0  # time for which a new upload is not aborted, because its rate is not known yet
PACE_SECONDS: Final = 10.0  # time constant of the average rate of an upload: bytes received long ago do not count
RETRY_SECONDS: Final = 5
# divisor: an address may have one part in so many of the unproven senders' bytes; by default 1 GiB, the largest body
SENDER_SHARE: Final = 4
Write = Callable[[bytes], Awaitable[None]]
_upload_invalid: Final = partial(InvalidError, reason="UPLOAD_INVALID")


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


class UploadReceiver:
    """Receives uploaded bodies into storage."""

    def __init__(self, *, bodies: BodyStore, admission: AdmissionControl, uploads: Limit, upload_bytes: Limit) -> None:
        """Limit uploads at a time, half of them by proven senders; and bytes being uploaded or waiting for events."""
        self._bodies = bodies
        self._admission = admission
        self._uploads = SharedLimit(uploads)
        self._bytes = SharedLimit(upload_bytes)
        self._now = asyncio.get_running_loop().time
        self._places = UploadSlots(most=uploads.total // 2, most_bytes=upload_bytes.total, now=self._now)

    @property
    def under_way(self) -> int:
        return self._uploads.used

    @property
    def bytes(self) -> int:
        """Bytes of bodies being uploaded, and of uploaded ones without their event."""
        return self._bytes.used

    async def receive(
        self, requests: AsyncIterator[pb.UploadBodyRequest], admit: Callable[[], Awaitable[None]]
    ) -> StoredBody:
        """Store one body; `admit` signals the caller that it may send it.

        Raises:
            FlowhookError: see protos/flowhook/v1/ingest_service.proto; nothing of the body remains stored.
        """
        start = await _start(requests)
        size = start.size if start.HasField("size") else None
        entry = self._admission.known(start.flow_id) or await self._admission.flow(start.flow_id)
        self._admission.check_backlog(entry.id, entry.max_backlog)
        token = current_principal.get()
        with self._uploads.acquire(token):
            seat = self._bytes.acquire(token, size or 0)
            try:
                async with asyncio.timeout(None) as end:
                    place = self._places.allocate(
                        entry.id, start.sender, size, proven=start.proven, give_way=lambda: end.reschedule(self._now())
                    )
                    try:
                        # the seat belongs to the stored body from now on
                        return await self._store(await self._bodies.begin(entry.id, size, seat), place, requests, admit)
                    finally:
                        self._places.release(place)
            except TimeoutError:
                seat.release()
                raise uploads_full() from None
            except BaseException:
                seat.release()
                raise

    async def _store(
        self,
        upload: BodyUpload,
        slot: UploadSlot,
        requests: AsyncIterator[pb.UploadBodyRequest],
        admit: Callable[[], Awaitable[None]],
    ) -> StoredBody:
        try:
            await admit()
            async for chunk in _chunks(requests):
                await upload.write(chunk)
                self._places.received(slot, len(chunk))
            slot.abort = None  # the caller ends a body only after checking it, so it must not be aborted now
            return await upload.finish()
        finally:
            upload.discard()


@attrs.define(eq=False, repr=False, kw_only=True)
class BodySender:
    """Reads bodies in chunks, as fast as the receiver accepts them.

    Raises:
        NotFoundError: there is no such body, or it was removed meanwhile (`BODY_NOT_FOUND`).
        ExhaustedError: the caller has its share of the bodies that may be read at a time (`TOO_MANY_READERS`).
        UnavailableError: no more may be read (`READERS_FULL`), or storage can't serve.
    """

    _bodies: BodyStore
    _state: ShardState
    _limit: SharedLimit = attrs.field(converter=SharedLimit)  # bodies that may be read at a time

    async def slice(self, execution_id: str, offset: int, size: int, write: Write) -> None:
        with self._limit.acquire(current_principal.get()):
            body_id = await self._state.body_of(execution_id)
            if body_id is None:
                raise NotFoundError("the execution has no stored body", reason="BODY_NOT_FOUND")
            await self._read(body_id, write, offset, size)

    async def whole(self, seq: int, write: Write) -> bool:
        """Write the body of an execution's event, and return whether the event is stored."""
        with self._limit.acquire(current_principal.get()):
            part = await self._state.read_payload(seq, partial(read_event, max_body_bytes=limits.CHUNK_BYTES))
            if part is None:
                return False
            event = envelope_pb2.Event.FromString(part.event)
            if event.HasField("body_blob"):
                await self._read(event.body_blob.id, write, 0, event.body_blob.size)
            elif event.body:
                await write(event.body)
            for start in range(limits.CHUNK_BYTES, part.body_size, limits.CHUNK_BYTES):
                size = min(limits.CHUNK_BYTES, part.body_size - start)
                chunk = await self._state.read_payload(seq, methodcaller("read", part.body_offset + start, size))
                if chunk is None:
                    raise NotFoundError("the body was removed", reason="BODY_NOT_FOUND")
                await write(chunk)
            return True

    async def _read(self, body_id: str, write: Write, offset: int, size: int) -> None:
        reader = await self._bodies.open(body_id)
        if reader is None:
            raise NotFoundError("the body was removed", reason="BODY_NOT_FOUND")
        with closing(reader):
            end = offset + size
            if not 0 <= offset <= end <= reader.size:
                raise InvalidError("the slice exceeds the body", reason="SLICE_INVALID")
            while offset < end:
                data = await reader.read(offset, min(limits.CHUNK_BYTES, end - offset))
                if not data:
                    raise UnavailableError(
                        "the stored body is shorter than its recorded size", reason="STORAGE_UNAVAILABLE"
                    )
                await write(data)
                offset += len(data)


async def _start(requests: AsyncIterator[pb.UploadBodyRequest]) -> pb.UploadStart:
    request = await _next(requests, START_SECONDS)
    start = request.start
    error_mapping.check_request_size(request)
    if request.WhichOneof("message") != "start":
        raise _upload_invalid("the first message must be `start`")
    if len(start.sender) > MAX_SENDER_LENGTH:
        raise _upload_invalid(f"`sender` must have at most {MAX_SENDER_LENGTH} characters")
    if start.HasField("size") and not 0 < start.size <= limits.MAX_STREAMED_BODY_BYTES:
        raise _upload_invalid(f"the size of a body must be 1 to {limits.MAX_STREAMED_BODY_BYTES} bytes")
    return start


async def _chunks(requests: AsyncIterator[pb.UploadBodyRequest]) -> AsyncIterator[bytes]:
    while (request := await _next(requests, SILENCE_SECONDS)).WhichOneof("message") != "end":
        if not 0 < len(request.chunk) <= MAX_CHUNK_BYTES:
            raise _upload_invalid(f"a chunk must have 1 to {MAX_CHUNK_BYTES} bytes")
        yield request.chunk


async def _next(requests: AsyncIterator[pb.UploadBodyRequest], seconds: float) -> pb.UploadBodyRequest:
    try:
        async with asyncio.timeout(seconds):
            return await anext(requests)
    except StopAsyncIteration:
        raise _upload_invalid("the stream ended before the end of the body") from None
    except TimeoutError:
        raise _upload_invalid("no chunk was received in time") from None
