"""Attachments of the request that started an execution, as its calls find them.

A flow knows an attachment by a handle, `<ID>/<index>`. The ID is that of the execution, or of the one whose journal
it goes on from: a handle that an earlier attempt kept somewhere is good in a replay, too, and nobody else's is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, Protocol

from flowhook.event_input import content_of, parts_of
from flowhook.limits import CHUNK_BYTES
from flowhook.model import Event
from flowhook.payloads import Attachment as Content
from runner.interpreter.errors import Kind, TaskFault, fault

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")

Slices = Callable[[int, int], AsyncIterator[bytes]]
"""From the offset and the size of a slice of a body that is stored apart to its bytes, a piece at a time."""


class Attachment(NamedTuple):
    """An attachment.

    Attributes:
        name: base name of the file, or `body`.
        type: media type as sent; may be empty.
        size: in bytes.
        open: gives its bytes, a piece at a time, whenever it is called; may raise FlowhookError or TaskFault.
    """

    name: str
    type: str
    size: int
    open: Callable[[], AsyncIterator[bytes]]


class Attachments(Protocol):
    """Attachments that a call may use."""

    def find(self, handle: str) -> Attachment:
        """Return an attachment.

        Raises:
            TaskFault: there is none of this handle (configuration).
        """
        ...


class NoAttachments:
    """See `Attachments`: there are none."""

    def find(self, handle: str) -> Attachment:
        """See `Attachments`."""
        raise _unknown(handle)


NO_ATTACHMENTS: Final = NoAttachments()


class EventAttachments:
    """See `Attachments`: those of the event that started an execution."""

    def __init__(self, event: Event, owner: str, *, raw: bool, slices: Slices | None = None) -> None:
        """Find what `event_input` describes.

        Args:
            event: with its body, or the name of one.
            owner: ID that handles begin with.
            raw: the flow wants the body as it is.
            slices: reads from the body that the event names, if it does.
        """
        self._event = event
        self._owner = owner
        self._raw = raw
        self._slices = slices

    def find(self, handle: str) -> Attachment:
        """See `Attachments`. Blocking for as long as it takes to parse the body."""
        owner, _, index = handle.partition("/")
        if owner != self._owner or not _INDEX.fullmatch(index):
            raise _unknown(handle)
        found = self._apart(int(index)) if self._event.body_blob is not None else self._inline(int(index))
        if found is None:
            raise _unknown(handle)
        return found

    def _apart(self, index: int) -> Attachment | None:
        parts, slices = parts_of(self._event, raw=self._raw), self._slices
        if slices is None or index >= len(parts):
            return None
        part = parts[index]
        return Attachment(part.name, part.type, part.size, lambda: slices(part.offset, part.size))

    def _inline(self, index: int) -> Attachment | None:
        attachments = content_of(self._event, raw=self._raw).attachments
        if index >= len(attachments):
            return None
        content: Content = attachments[index]
        return Attachment(content.name, content.type, len(content.content), lambda: pieces(content.content))


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Give bytes a piece at a time."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _unknown(handle: str) -> TaskFault:
    shown = handle[:80] if handle.isprintable() else "?"
    return fault(Kind.CONFIGURATION, f"the request that started this execution has no attachment {shown}")
