"""The operation that traces an execution, and the interface of what computes traces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from admin.operations.executions import ExecutionId
from flowhook.client import AsyncClient
from flowhook.errors import UnavailableError
from flowhook.execution_trace import MAX_BODY_BYTES, ExecutionTrace
from flowhook.model import ExecutionDetail

if TYPE_CHECKING:
    from admin.operations.tools import Tools


class Tracer(Protocol):
    """Computes traces of executions, without performing their effects."""

    async def trace(self, definition: bytes, detail: ExecutionDetail, body: bytes = b"") -> ExecutionTrace:
        """Return the trace of an execution.

        Args:
            definition: the recorded revision of the flow, canonical JSON.
            detail: the execution.
            body: the beginning of the body, if it is stored apart from the event.

        Raises:
            InvalidError: the flow can't be run (`FLOW_UNREADABLE`), or the trace is too costly (`TOO_COSTLY`).
            ExhaustedError: too many traces are waiting (`OVERLOADED`).
        """
        ...


async def trace_execution(client: AsyncClient, parameters: ExecutionId, tools: Tools) -> ExecutionTrace:
    """Recompute the data of each task of an execution.

    Raises:
        NotFoundError: the execution, or its revision of the flow, is not stored any more.
        UnavailableError: this process has no tracer (`TRACER_MISSING`).
        FlowhookError: see `Tracer.trace`.
    """
    if tools.tracer is None:
        raise UnavailableError("this process computes no traces", reason="TRACER_MISSING")
    detail = await client.executions.get(parameters.execution_id)
    execution, event = detail.execution, detail.event
    flow = await client.flows.get(execution.flow_id, revision=execution.flow_revision)
    body = b""
    if event.body_blob is not None:
        async with aclosing(_beginning(client.executions.body(execution.id))) as chunks:
            body = b"".join([chunk async for chunk in chunks])
    return await tools.tracer.trace(flow.definition, detail, body)


async def _beginning(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the first `MAX_BODY_BYTES` of a body."""
    left = MAX_BODY_BYTES
    async for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
