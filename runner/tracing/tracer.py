"""Computes traces in separate processes, within limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import orjson
from pydantic import TypeAdapter

from flowhook import limits
from flowhook.errors import ExhaustedError
from flowhook.model import ExecutionDetail
from flowhook.model.execution_trace import ExecutionTrace
from flowhook.sandbox.offload import Offload
from flowhook.sharing.table import OffloadLimits
from flowhook.v1.execution_service_pb2 import GetExecutionResponse
from flowhook.wire.mapping import to_proto

SECONDS: Final = 2.0  # CPU time of one trace: an endless expression is ended after that
MEMORY_BYTES: Final = 256 * limits.MIB  # memory of a process
MAX_TRACES: Final = 16  # traces that may be running or queued; two run at a time
WAIT_SECONDS: Final = 10.0  # longest wait of a trace for a process
_TRACES: Final = TypeAdapter(ExecutionTrace)


def compute_trace(definition: bytes, detail: bytes, body: bytes) -> Iterator[bytes]:
    """Yield an `ExecutionTrace` as JSON; see `ExecutionTracer.trace`. `detail` is a `GetExecutionResponse`."""
    from runner.tracing.replay import trace_execution  # noqa: PLC0415 - only this process needs the interpreter

    yield orjson.dumps(trace_execution(definition, detail, body), default=tuple)  # of named tuples


class ExecutionTracer:
    """Computes traces. Close it after the last call."""

    def __init__(self, *, seconds: float = SECONDS, max_traces: int = MAX_TRACES) -> None:
        self._offload = Offload(
            "trace",
            seconds=seconds,
            memory=MEMORY_BYTES,
            shared=OffloadLimits.with_waiting(max_traces),
            imports="runner.tracing.replay",  # half a second of CPU time
        )
        self._offload.wait_seconds = WAIT_SECONDS
        self._max_traces = max_traces
        self._active = 0

    async def trace(self, definition: bytes, detail: ExecutionDetail, body: bytes = b"") -> ExecutionTrace:
        """Return the trace of an execution on the recorded revision of its flow, canonical JSON.

        `body` is the beginning of the body, if it is stored apart from the event.

        Raises:
            InvalidError: this version can't run the definition (`FLOW_UNREADABLE`), or the trace takes too much time or
                memory (`TOO_COSTLY`).
            ExhaustedError: too many traces are waiting (`OVERLOADED`).
            InternalError: the trace failed.
        """
        if self._active >= self._max_traces:
            raise ExhaustedError("too many traces are being computed", reason="OVERLOADED")
        self._active += 1
        try:
            stored = to_proto(replace(detail, history=()), GetExecutionResponse).SerializeToString()
            parts = (definition, stored, body)
            (text,) = await self._offload.run(detail.execution.flow_id, compute_trace, *parts)
        finally:
            self._active -= 1
        return _TRACES.validate_json(text)

    async def aclose(self) -> None:
        await self._offload.aclose()
