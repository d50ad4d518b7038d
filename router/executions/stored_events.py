"""Reads what is stored of an execution, with its event or with the beginning of it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from flowhook.model import Event
from flowhook.wire import convert
from flowhook.wire.event_body import read_event
from router.storage.interface import ShardState
from router.storage.model import ExecutionContent


class StoredExecution(NamedTuple):
    """What is stored of an execution.

    Attributes:
        content: its large parts; the payload only if the whole event was requested.
        event: its event.
        cut_body_size: bytes of the whole body if `event` has only the beginning of it; None: it has all.
    """

    content: ExecutionContent
    event: Event
    cut_body_size: int | None


async def read_execution(state: ShardState, seq: int, *, max_body_bytes: int | None) -> StoredExecution | None:
    """Return what is stored of an execution; None: it is past retention.

    Args:
        state: the state of the shard.
        seq: number of the execution.
        max_body_bytes: most bytes of the event's body; None: all of them.
    """
    content = await state.content(seq, with_payload=max_body_bytes is None)
    if content is None:
        return None
    if max_body_bytes is None:
        return StoredExecution(content, convert.event_from_bytes(content.payload), None)
    part = await state.read_payload(seq, partial(read_event, max_body_bytes=max_body_bytes))
    if part is None:
        return None
    event = convert.event_from_bytes(part.event)
    return StoredExecution(content, event, part.body_size if part.body_size > len(event.body) else None)
