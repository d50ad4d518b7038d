"""The operation that traces an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import orjson
from pydantic import Field

from flowhook import limits
from flowhook.errors import InvalidError, UnavailableError
from flowhook.model import Event
from flowhook.model.execution_trace import MAX_BODY_BYTES, ExecutionTrace
from operations.executions import ExecutionId
from operations.stored_bodies import read_beginning

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

# bytes of a body that are read at once; a longer one is read once it is known that it is needed
SMALL_BODY: Final = 64 * limits.KIB


class TracedExecution(ExecutionId):
    """Parameters of `trace_execution`."""

    max_body: Annotated[int, Field(ge=0, le=limits.MAX_STREAMED_BODY_BYTES)] = limits.MAX_STREAMED_BODY_BYTES
    """Bytes of the body that are read at most, unless it is stored apart: a larger one has no trace."""


async def trace_execution(client: AsyncClient, parameters: TracedExecution, tools: Tools) -> ExecutionTrace:
    """Recompute the data of each task of an execution from its event and its journal, without performing any effect.

    Raises:
        NotFoundError: the execution, or its revision of the flow, is not stored any more.
        InvalidError: its body has more than `max_body` bytes (`BODY_NOT_READ`).
        UnavailableError: this process has no tracer (`TRACER_MISSING`).
        FlowhookError: see `Tracer.trace`.
    """
    if tools.tracer is None:
        raise UnavailableError("this process computes no traces", reason="TRACER_MISSING")
    name, most = parameters.execution_id, parameters.max_body
    detail = await client.executions.get(name, max_body_bytes=min(most, SMALL_BODY))
    if detail.cut_body_size is not None:
        if detail.cut_body_size > most:
            raise InvalidError(
                f"it needs the body of the request, which has {detail.cut_body_size} bytes, and max_body is {most}",
                reason="BODY_NOT_READ",
            )
        detail = await client.executions.get(name)
    flow = await client.flows.get(detail.execution.flow_id, revision=detail.execution.flow_revision)
    attached = _attached_bytes(detail.event, flow.definition)
    body = (await read_beginning(client, name, attached))[:attached] if attached else b""
    async with tools.turn():
        return await tools.tracer.trace(flow.definition, detail, body)


def _attached_bytes(event: Event, definition: bytes) -> int:
    """Return how many bytes of a body that is stored apart have the attachments whose content is part of the input."""
    if event.body_blob is None:
        return 0
    from flowhook.events.workflow_input import (  # noqa: PLC0415 - it reads bodies, which no process needs to start
        inlined_indexes,
        stored_attachments,
        takes_raw_body,
    )

    parts = stored_attachments(event, raw=takes_raw_body(orjson.loads(definition)))
    ends = (parts[index].offset + parts[index].size for index in inlined_indexes(parts))
    return min(max(ends, default=0), MAX_BODY_BYTES)
