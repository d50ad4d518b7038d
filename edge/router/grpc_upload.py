"""An upload of one body to the router, as an UploadBody call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import grpc.aio

from flowhook.errors import UnavailableError
from flowhook.model import Blob
from flowhook.v1.ingest_service_pb2 import UploadBodyRequest, UploadBodyResponse, UploadEnd, UploadStart
from flowhook.wire import status
from flowhook.wire.convert import blob_from_proto

T = TypeVar("T")
UploadCall = grpc.aio.StreamUnaryCall[UploadBodyRequest, UploadBodyResponse]

_ADMITTED: Final = "admitted"
_END: Final = UploadBodyRequest(end=UploadEnd())


@attrs.define(eq=False, repr=False)
class GrpcUpload:
    """See `client.Upload`."""

    _call: UploadCall
    _seconds: float
    _given_up: bool = attrs.field(init=False, default=False)

    async def begin(self, start: UploadStart) -> None:
        """Wait until the router admits the body."""
        await self._send(UploadBodyRequest(start=start))
        if _ADMITTED not in dict(await self._step(self._call.initial_metadata())):  # the call ends with a refusal
            await self._step(self._call)

    async def write(self, data: bytes) -> None:
        """See `client.Upload`."""
        await self._send(UploadBodyRequest(chunk=data))

    async def finish(self) -> Blob:
        """See `client.Upload`."""
        await self._send(_END)
        await self._step(self._call.done_writing())
        response: UploadBodyResponse = await self._step(self._call)
        return blob_from_proto(response.blob)

    def cancel(self) -> None:
        """See `client.Upload`."""
        self._given_up = True
        self._call.cancel()

    def on_end(self, callback: Callable[[], object]) -> None:
        """See `client.Upload`."""

        def ended(_call: object) -> None:
            if not self._given_up:
                callback()

        self._call.add_done_callback(ended)

    async def outcome(self) -> None:
        """See `client.Upload`."""
        await self._step(self._call)

    async def _send(self, message: UploadBodyRequest) -> None:
        if self._call.done():
            await self._step(self._call)
        try:
            await self._step(self._call.write(message))
        except asyncio.InvalidStateError:  # the call has just ended
            await self._step(self._call)

    async def _step(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await step
        except TimeoutError:
            self._call.cancel()
            raise UnavailableError("the router does not take the body") from None
        except grpc.aio.AioRpcError as error:
            # if a write overlaps the end of the call, gRPC replaces the router's error with one of its own
            if error.code() is grpc.StatusCode.INTERNAL:
                raise UnavailableError("the router ended the upload") from None
            raise status.from_rpc_error(error) from None


async def begin_upload(call: UploadCall, start: UploadStart, seconds: float) -> GrpcUpload:
    """See `client.RouterClient.upload`."""
    upload = GrpcUpload(call, seconds)
    try:
        await upload.begin(start)
    except BaseException:
        upload.cancel()
        raise
    return upload
