"""The function that computes a trace in a separate process; the calling process need not import the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import orjson


def compute_trace(definition: bytes, detail: bytes, body: bytes) -> Iterator[bytes]:
    """Yield a trace (`flowhook.model.execution_trace.ExecutionTrace`) as JSON.

    Args:
        definition: the recorded revision of the flow, canonical JSON.
        detail: the execution, as a serialized `GetExecutionResponse`.
        body: the beginning of the body, if it is stored apart from the event.

    Raises:
        InvalidError: this version can't run the definition (`FLOW_UNREADABLE`).
    """
    from runner.tracing.replay import trace_execution  # noqa: PLC0415 - only this process needs the interpreter

    yield orjson.dumps(trace_execution(definition, detail, body))
