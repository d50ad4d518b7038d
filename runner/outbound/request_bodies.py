"""Streamed request bodies: attachments that are sent while they are read, without holding them in memory.

Each attempt of a request reads them again. They have a known length and are sent with Content-Length, because not every
server accepts chunked transfer coding.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from flowhook.payloads import parse_content_type
from runner.outbound.attachments import RequestAttachment, chunks

OCTETS: Final = "application/octet-stream"


class StreamedBody(Protocol):
    """A body that can be sent any number of times."""

    def payload(self) -> Payload:
        """Return the body for one attempt."""
        ...


class FormPart(NamedTuple):
    """A part of a form: a value or an attachment.

    Attributes:
        filename: None: the part is not a file.
        type: media type; empty: the part has no Content-Type.
    """

    name: str
    content: bytes | RequestAttachment
    filename: str | None = None
    type: str = ""


class AttachmentBody:
    """An attachment, sent unchanged as the body."""

    def __init__(self, attachment: RequestAttachment) -> None:
        self._attachment = attachment

    def payload(self) -> Payload:
        """See `StreamedBody`."""
        return _Source(self._attachment.size, self._attachment.open, media_type(self._attachment.type))


class FormBody:
    """Values and attachments as `multipart/form-data` (RFC 7578)."""

    def __init__(self, fields: Sequence[FormPart]) -> None:
        self._fields = fields

    def payload(self) -> Payload:
        """See `StreamedBody`."""
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
    names = {"name": field.name} if field.filename is None else {"name": field.name, "filename": field.filename}
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

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """See `Payload`."""
        del content_length  # always equal to the size
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: a streamed body can't be decoded."""
        raise TypeError(f"a streamed body can't be decoded ({encoding}, {errors})")
