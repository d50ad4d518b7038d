"""Streams of bodies stored separately from events: uploads (UploadBody), reads (ReadAttachment, ReadBody)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from functools import partial
from operator import methodcaller
from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError, NotFoundError, UnavailableError
from flowhook.sharing import Limit, SharedLimit, current_principal
from flowhook.v1 import envelope_pb2
from flowhook.v1 import ingest_service_pb2 as pb
from flowhook.wire.event_body import read_event
from router.bodies.upload_slots import UploadSlot, UploadSlots, uploads_full
from router.calls import error_mapping
from router.flows.admission import AdmissionControl
from router.storage.bodies import BodyStore, BodyUpload, StoredBody
from router.storage.shard_state import ShardState

START_SECONDS: Final = 10.0  # timeout for the first message of an upload
# timeout for the next message of an upload. Edges enforce a minimum rate on senders, and give up earlier.
SILENCE_SECONDS: Final = 120.0
MAX_CHUNK_BYTES: Final = 1 * limits.MIB

MAX_SENDER_LENGTH: Final = 64  # characters of the name that identifies a sender
Write = Callable[[bytes], Awaitable[None]]
_upload_invalid: Final = partial(InvalidError, reason="UPLOAD_INVALID")


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


class BodySender:
    """Reads bodies in chunks, as fast as the receiver accepts them.

    Raises:
        NotFoundError: there is no such body, or it was removed meanwhile (`BODY_NOT_FOUND`).
        ExhaustedError: the caller has its share of the bodies that may be read at a time (`TOO_MANY_READERS`).
        UnavailableError: no more may be read (`READERS_FULL`), or storage can't serve.
    """

    def __init__(self, *, bodies: BodyStore, state: ShardState, limit: Limit) -> None:
        self._bodies = bodies
        self._state = state
        self._downloads = SharedLimit(limit)

    async def slice(self, execution_id: str, offset: int, size: int, write: Write) -> None:
        with self._downloads.acquire(current_principal.get()):
            body_id = await self._state.body_of(execution_id)
            if body_id is None:
                raise NotFoundError("the execution has no stored body", reason="BODY_NOT_FOUND")
            await self._read(body_id, write, offset, size)

    async def whole(self, seq: int, write: Write) -> bool:
        """Write the body of an execution's event, and return whether the event is stored."""
        with self._downloads.acquire(current_principal.get()):
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
