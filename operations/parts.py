"""Operations on the attachments of an execution's request: the parts of a form, or a body that is not parsed."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import orjson
from pydantic import Field

from flowhook import limits
from flowhook.client import AsyncClient
from flowhook.errors import NotFoundError, UnavailableError
from flowhook.model import Blob, Event, Part
from flowhook.sandbox.offload import Offload
from flowhook.sharing.table import OffloadLimits
from flowhook.wire import convert
from operations.attachment_parts import list_attachments, read_attachment
from operations.executions import ExecutionId
from operations.operation import Download

if TYPE_CHECKING:
    from operations.tools import Tools

SECONDS: Final = 5.0
"""CPU time in which the attachments of a body are found."""

MEMORY_BYTES: Final = 256 * limits.MIB
"""Memory of a process."""

MAX_WAITING: Final = 16
"""Calls that may be running or queued for one flow."""

_PARSED: Final = re.compile(
    r"\s*(application/([^;]+\+)?json|application/x-www-form-urlencoded|text/[^;]*)\s*(;|$)", re.IGNORECASE
)
"""Media types of bodies that have no attachments."""


class PartNumber(ExecutionId):
    """Parameters of `read_part`."""

    index: Annotated[int, Field(ge=0, le=100_000)]
    """Index of the attachment, from 0."""


@dataclass(frozen=True, slots=True)
class PartView:
    """An attachment. `sha256` is in hexadecimal; `field` is that of a form, or empty."""

    index: int
    name: str
    type: str
    size: int
    sha256: str
    field: str


@dataclass(frozen=True, slots=True)
class PartList:
    """The attachments of a request, in order."""

    parts: tuple[PartView, ...]


class PartReader:
    """Finds attachments in bodies that are parts of their events, in processes of its own. Close it after use."""

    def __init__(self) -> None:
        self._offload = Offload(
            "attachments", seconds=SECONDS, memory=MEMORY_BYTES, shared=OffloadLimits.with_waiting(MAX_WAITING)
        )

    async def parts(self, event: Event) -> list[PartView]:
        """Return the attachments of an event.

        Raises:
            InvalidError: that takes too much time or memory (`TOO_COSTLY`).
            ExhaustedError: too many calls are waiting (`OVERLOADED`).
        """
        found = await self._offload.run(event.flow_id, list_attachments, convert.event_to_bytes(event))
        return [PartView(**orjson.loads(each)) for each in found]

    async def read(self, event: Event, index: int) -> tuple[str, bytes] | None:
        """Return the name and the content of an attachment; None: there is no such. Raises: see `parts`."""
        parts = (convert.event_to_bytes(event), b"%d" % index)
        found = await self._offload.run(event.flow_id, read_attachment, *parts)
        return (found[0].decode(), found[1]) if found else None

    async def aclose(self) -> None:
        """End all processes."""
        await self._offload.aclose()


async def list_parts(client: AsyncClient, parameters: ExecutionId, tools: Tools) -> PartList:
    """Return the attachments of the request that started an execution.

    Raises:
        UnavailableError: this process has no reader (`READER_MISSING`).
        FlowhookError: see `PartReader.parts`.
    """
    event = await _event(client, parameters.execution_id)
    if event.body_blob is not None:
        return PartList(tuple(_view(index, part) for index, part in enumerate(_stored_parts(event.body_blob, event))))
    if not may_have_parts(event.content_type, len(event.body)):
        return PartList(())
    async with tools.turn():
        return PartList(tuple(await _reader(tools).parts(event)))


async def read_part(client: AsyncClient, parameters: PartNumber, tools: Tools) -> Download:
    """Return an attachment, byte for byte.

    Raises:
        NotFoundError: there is no such attachment (`PART_NOT_FOUND`).
        FlowhookError: see `list_parts`.
    """
    event = await _event(client, parameters.execution_id)
    if event.body_blob is not None:
        parts = _stored_parts(event.body_blob, event)
        if parameters.index < len(parts):
            part = parts[parameters.index]
            return Download(part.name, _slice(client.executions.body(event.id), part.offset, part.size))
    elif may_have_parts(event.content_type, len(event.body)):
        async with tools.turn():
            found = await _reader(tools).read(event, parameters.index)
        if found is not None:
            return Download(found[0], _whole(found[1]))
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
    """Whether a body may have attachments."""
    return body_size > 0 and _PARSED.match(content_type) is None


def _reader(tools: Tools) -> PartReader:
    if tools.parts_reader is None:
        raise UnavailableError("this process reads no attachments", reason="READER_MISSING")
    return tools.parts_reader


def _view(index: int, part: Part) -> PartView:
    return PartView(index, part.name, part.type, part.size, part.sha256.hex(), part.field)


async def _whole(content: bytes) -> AsyncGenerator[bytes]:
    yield content


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
