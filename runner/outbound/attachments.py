"""Attachments of the request that started an execution, looked up by handle.

A flow refers to an attachment by a handle, `<ID>/<index>`. The ID is that of the execution, or of the execution whose
journal it continues (a replay). A handle that an earlier attempt stored is therefore valid in a replay; a handle of any
other execution is not.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, Protocol

import attrs

from flowhook.events.workflow_input import parse_event_body, stored_attachments
from flowhook.limits import CHUNK_BYTES
from flowhook.model import Event
from flowhook.payloads import Attachment as Content
from runner.interpreter.errors import Kind, TaskFault, fault

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")

SliceReader = Callable[[int, int], AsyncIterator[bytes]]
"""Reads a slice (offset, size in bytes) of a body that is stored separately from its event, in chunks."""


class RequestAttachment(NamedTuple):
    """An attachment.

    Attributes:
        name: base name of the file, or `body`.
        type: media type as sent; may be empty.
        size: in bytes.
        open: returns the content in chunks, from the start on each call; may raise FlowhookError or TaskFault.
    """

    name: str
    type: str
    size: int
    open: Callable[[], AsyncIterator[bytes]]


class Attachments(Protocol):
    """Finds the attachments that a call may use."""

    def find(self, handle: str) -> RequestAttachment:
        """Return an attachment.

        Raises:
            TaskFault: no attachment has this handle (configuration).
        """
        ...


class NoAttachments:
    """An empty set of attachments."""

    def find(self, handle: str) -> RequestAttachment:
        """See `Attachments`."""
        raise _unknown(handle)


NO_ATTACHMENTS: Final = NoAttachments()


@attrs.define(eq=False, repr=False)
class EventAttachments:
    """The attachments of the event that started an execution.

    Args:
        event: with its body, or with the name of a body that is stored separately.
        owner: ID that handles begin with.
        raw: whether the flow takes the body unparsed.
        slices: reads the body that the event names; None: there is none.

    Args:
        event: with its body, or with the name of a body that is stored separately.
        owner: ID that handles begin with.
        raw: whether the flow takes the body unparsed.
        slices: reads the body that the event names; None: there is none.
    """

    _event: Event
    _owner: str
    _raw: bool = attrs.field(kw_only=True)
    _slices: SliceReader | None = attrs.field(default=None, kw_only=True)

    def find(self, handle: str) -> RequestAttachment:
        """See `Attachments`. Blocking while the body is parsed."""
        owner, _, index = handle.partition("/")
        if owner != self._owner or not _INDEX.fullmatch(index):
            raise _unknown(handle)
        found = self._find_stored(int(index)) if self._event.body_blob is not None else self._find_inline(int(index))
        if found is None:
            raise _unknown(handle)
        return found

    def _find_stored(self, index: int) -> RequestAttachment | None:
        parts, slices = stored_attachments(self._event, raw=self._raw), self._slices
        if slices is None or index >= len(parts):
            return None
        part = parts[index]
        return RequestAttachment(part.name, part.type, part.size, lambda: slices(part.offset, part.size))

    def _find_inline(self, index: int) -> RequestAttachment | None:
        attachments = parse_event_body(self._event, raw=self._raw).attachments
        if index >= len(attachments):
            return None
        content: Content = attachments[index]
        return RequestAttachment(content.name, content.type, len(content.content), lambda: chunks(content.content))


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    """Yield bytes in chunks of at most `CHUNK_BYTES`."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _unknown(handle: str) -> TaskFault:
    shown = handle[:80] if handle.isprintable() else "?"
    return fault(Kind.CONFIGURATION, f"the request that started this execution has no attachment {shown}")
