"""Operations on the attachments of an execution's request: the parts of a form, or a body that is not parsed."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import orjson
from pydantic import Field

from flowhook.errors import NotFoundError, UnavailableError
from flowhook.model import Blob, Event, Part
from operations.attachment_parts import ListedPart, list_attachments, read_attachment
from operations.executions import ExecutionId
from operations.operation import Download, whole

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

# media types of bodies that have no attachments
_PARSED: Final = re.compile(
    r"\s*(application/([^;]+\+)?json|application/x-www-form-urlencoded|text/[^;]*)\s*(;|$)", re.IGNORECASE
)


class PartNumber(ExecutionId):
    """Parameters of `read_part`."""

    index: Annotated[int, Field(ge=0, le=100_000)]
    """Index of the attachment, from 0."""


@dataclass(frozen=True, slots=True)
class PartList:
    """The attachments of a request, in order."""

    parts: tuple[ListedPart, ...]


async def list_parts(client: AsyncClient, parameters: ExecutionId, tools: Tools) -> PartList:
    """List the attachments of the request that started an execution."""
    event = await _event(client, parameters.execution_id)
    if event.body_blob is not None:
        return PartList(
            tuple(
                ListedPart(index, part.name, part.type, part.size, part.sha256.hex(), part.field)
                for index, part in enumerate(_stored_parts(event.body_blob, event))
            )
        )
    if not may_have_parts(event.content_type, len(event.body)):
        return PartList(())
    found = await _find(tools, event, list_attachments)
    return PartList(tuple(ListedPart(**orjson.loads(each)) for each in found))


async def read_part(client: AsyncClient, parameters: PartNumber, tools: Tools) -> Download:
    """Read an attachment of the request that started an execution, byte for byte."""
    event = await _event(client, parameters.execution_id)
    if event.body_blob is not None:
        parts = _stored_parts(event.body_blob, event)
        if parameters.index < len(parts):
            part = parts[parameters.index]
            return Download(part.name, _slice(client.executions.body(event.id), part.offset, part.size))
    elif may_have_parts(event.content_type, len(event.body)) and (
        found := await _find(tools, event, read_attachment, b"%d" % parameters.index)
    ):
        name, content = found
        return Download(name.decode(), whole(content))
    raise NotFoundError(f"the request has no attachment {parameters.index}", reason="PART_NOT_FOUND")


async def _event(client: AsyncClient, execution_id: str) -> Event:
    """Return an event, without its body unless attachments may have to be found in it."""
    detail = await client.executions.get(execution_id, max_body_bytes=0)
    if detail.event.body_blob is not None or not may_have_parts(detail.event.content_type, detail.body_size):
        return detail.event
    return (await client.executions.get(execution_id)).event


def _stored_parts(blob: Blob, event: Event) -> Sequence[Part]:
    """Return the attachments of a body that is stored apart: those that an edge found, or all of it."""
    return event.parts or (Part(0, blob.size, event.content_type, "body", "", blob.sha256),)


def may_have_parts(content_type: str, body_size: int) -> bool:
    return body_size > 0 and _PARSED.match(content_type) is None


async def _find(
    tools: Tools, event: Event, function: Callable[..., Iterator[bytes]], *arguments: bytes
) -> Sequence[bytes]:
    """Return what a function of `attachment_parts` yields about an event; for errors see `Offload.run`."""
    from flowhook.wire import convert  # noqa: PLC0415 - it imports gRPC

    if tools.attachments is None:
        raise UnavailableError("this process reads no attachments", reason="READER_MISSING")
    async with tools.turn():
        return await tools.attachments.run(event.flow_id, function, convert.event_to_bytes(event), *arguments)


async def _slice(chunks: AsyncIterator[bytes], offset: int, size: int) -> AsyncGenerator[bytes]:
    """Yield `size` bytes of a body from `offset` on."""
    position = 0
    async with aclosing(chunks):  # type: ignore[type-var] # it is a generator
        async for chunk in chunks:
            piece = chunk[max(0, offset - position) : max(0, offset + size - position)]
            position += len(chunk)
            if piece:
                yield piece
            if position >= offset + size:
                return
