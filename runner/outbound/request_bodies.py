"""Streamed request bodies: attachments that are sent while they are read, without holding them in memory.

Each attempt of a request reads them again. They have a known length and are sent with Content-Length, because not every
server accepts chunked transfer coding.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from typing_extensions import override

from flowhook.events.workflow_input import parse_event_body, stored_attachments
from flowhook.limits import CHUNK_BYTES
from flowhook.model import Event
from flowhook.payloads.content_type import parse_content_type
from runner.interpreter.errors import Kind, TaskFault, fault

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")
OCTETS: Final = "application/octet-stream"
# reads a slice (offset, size in bytes) of a body that is stored separately from the event of that ID, in chunks
SliceReader = Callable[[str, int, int], AsyncIterator[bytes]]


class RequestAttachment(NamedTuple):
    """An attachment."""

    name: str  # base name of the file, or `body`
    type: str  # media type as sent; may be empty
    size: int  # in bytes
    # returns the content in chunks, from the start on each call; may raise FlowhookError or TaskFault
    open: Callable[[], AsyncIterator[bytes]]


class Attachments(Protocol):
    """Finds the attachments that a call may use."""

    def find(self, handle: str) -> RequestAttachment:
        """Return an attachment; TaskFault (configuration) if none has this handle. Blocking while a body is parsed."""
        ...


@attrs.define(eq=False, repr=False)
class EventAttachments(Attachments):
    """The attachments of the events that an execution runs for."""

    # each with its body, or with the name of a body that is stored separately; by the ID that handles begin with
    _events: Mapping[str, Event]
    _raw: bool = attrs.field(kw_only=True)  # whether the flow takes the body unparsed
    _slices: SliceReader | None = attrs.field(default=None, kw_only=True)  # reads the body that the event names

    @override
    def find(self, handle: str) -> RequestAttachment:
        owner, _, index = handle.partition("/")
        event = self._events.get(owner)
        if event is None or not _INDEX.fullmatch(index):
            raise _unknown(handle)
        find = self._find_inline if event.body_blob is None else self._find_stored
        found = find(event, int(index))
        if found is None:
            raise _unknown(handle)
        return found

    def _find_stored(self, event: Event, index: int) -> RequestAttachment | None:
        parts, slices = stored_attachments(event, raw=self._raw), self._slices
        if slices is None or index >= len(parts):
            return None
        part = parts[index]
        return RequestAttachment(part.name, part.type, part.size, lambda: slices(event.id, part.offset, part.size))

    def _find_inline(self, event: Event, index: int) -> RequestAttachment | None:
        attachments = parse_event_body(event, raw=self._raw).attachments
        if index >= len(attachments):
            return None
        found = attachments[index]
        return RequestAttachment(found.name, found.type, len(found.content), lambda: chunks(found.content))


NO_ATTACHMENTS: Final = EventAttachments({}, raw=False)


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    """Yield bytes in chunks of at most `CHUNK_BYTES`."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _unknown(handle: str) -> TaskFault:
    shown = handle[:80] if handle.isprintable() else "?"
    return fault(Kind.CONFIGURATION, f"the request that started this execution has no attachment {shown}")


class StreamedBody(Protocol):
    """A body that can be sent any number of times."""

    def payload(self) -> Payload:
        """Return the body for one attempt."""
        ...


class FormPart(NamedTuple):
    """A part of a form: a value or an attachment."""

    name: str
    content: bytes | RequestAttachment
    filename: str | None = None  # None: the part is not a file
    type: str = ""  # media type; empty: the part has no Content-Type


@attrs.define(eq=False, repr=False)
class AttachmentBody(StreamedBody):
    """An attachment, sent unchanged as the body."""

    _attachment: RequestAttachment

    @override
    def payload(self) -> Payload:
        return _Source(self._attachment.size, self._attachment.open, media_type(self._attachment.type))


@attrs.define(eq=False, repr=False)
class FormBody(StreamedBody):
    """Values and attachments as `multipart/form-data` (RFC 7578)."""

    _fields: Sequence[FormPart]

    @override
    def payload(self) -> Payload:
        writer = aiohttp.MultipartWriter("form-data")
        for field in self._fields:
            writer.append_payload(_part(field))
        return writer


def media_type(sent: str) -> str:
    """Return the media type to forward an attachment with: the sender's if it is valid, else `OCTETS`."""
    return sent if parse_content_type(sent).essence and sent.isprintable() and sent.isascii() else OCTETS


def _part(field: FormPart) -> Payload:
    content = field.content
    if isinstance(content, bytes):
        part = _Source(len(content), lambda: chunks(content), field.type)
    else:
        part = _Source(content.size, content.open, field.type)
    names = {"name": field.name} | ({} if field.filename is None else {"filename": field.filename})
    # plain UTF-8, as browsers send it, not percent-encoded (RFC 7578, section 5.1)
    part.set_content_disposition("form-data", quote_fields=False, **names)
    if not field.type:
        del part.headers["Content-Type"]
    return part


class _Source(Payload):
    """A payload of known size that reads its bytes from an async iterator."""

    _autoclose = True

    def __init__(self, size: int, open_: Callable[[], AsyncIterator[bytes]], content_type: str) -> None:
        super().__init__(None, content_type=content_type or OCTETS)
        self._size = size
        self._open = open_

    async def write(self, writer: AbstractStreamWriter) -> None:
        """See `Payload`. Never sends more than the declared size; fails if there is less."""
        async for piece in self._open():
            await writer.write(piece)

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        del content_length  # always equal to the size
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: a streamed body can't be decoded."""
        raise TypeError(f"a streamed body can't be decoded ({encoding}, {errors})")
