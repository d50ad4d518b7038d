"""Reads event bodies that the router stores separately from their events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import attrs
import grpc.aio

from flowhook.errors import UnavailableError
from flowhook.events.workflow_input import inlined_indexes, stored_attachments
from flowhook.model import Event, Part
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import status

READ_SECONDS: Final = 10.0  # deadline for reading one slice of a body that is part of an execution's input
# gap between two parts up to which both are read in one call: the size of a boundary and headers
GAP_BYTES: Final = 1024


@attrs.define(eq=False, repr=False)
class BodyFetcher:
    """Reads bodies over a channel that the caller owns."""

    _channel: grpc.aio.Channel

    async def read(
        self, execution_id: str, offset: int, size: int, *, seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a slice of the body of an execution's event in chunks, with back-pressure.

        Raises:
            NotFoundError: the body is no longer stored.
            UnavailableError: the router is not reachable, or the stream broke off.
        """
        request = pb.ReadAttachmentRequest(execution_id=execution_id, offset=offset, size=size)
        stub = runner_service_pb2_grpc.RunnerServiceStub(self._channel)
        call = stub.ReadAttachment(request, timeout=seconds, wait_for_ready=True)
        missing = size
        try:
            async for message in call:
                missing -= len(message.chunk)
                yield message.chunk
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None
        finally:
            call.cancel()
        if missing:
            raise UnavailableError("the router sent less of the body than it should have")

    async def contents(self, event: Event, *, raw: bool) -> dict[int, bytes]:
        """Return the attachment contents that belong in the input, by index; empty if the body is inline.

        Raises as `read` does.
        """
        parts = stored_attachments(event, raw=raw)
        found: dict[int, bytes] = {}
        for indexes in _neighbours(parts, inlined_indexes(parts)):
            start = parts[indexes[0]].offset
            size = parts[indexes[-1]].offset + parts[indexes[-1]].size - start
            pieces = [piece async for piece in self.read(event.id, start, size, seconds=READ_SECONDS)] if size else []
            data = b"".join(pieces)
            for index in indexes:
                begin = parts[index].offset - start
                found[index] = data[begin : begin + parts[index].size]
        return found


def _neighbours(parts: Sequence[Part], indexes: Sequence[int]) -> list[list[int]]:
    """Return the indexes in groups, each of which is read in one call."""
    groups: list[list[int]] = []
    end = -1
    for index in indexes:
        part = parts[index]
        if groups and 0 <= part.offset - end <= GAP_BYTES:
            groups[-1].append(index)
        else:
            groups.append([index])
        end = part.offset + part.size
    return groups
