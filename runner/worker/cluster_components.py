"""Components that need a cluster: publish events and start other flows; and what replaces them without one.

Tasks of other kinds use them; no `call` may name them.

Source: protos/flowhook/v1/runner_service.proto; `runner.interpreter.effects` for the arguments;
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md, section 3.2 (structured
mode).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import grpc.aio
from pydantic import BaseModel, ConfigDict, StrictStr

from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, NotFoundError, UnavailableError
from flowhook.process import logs
from flowhook.retrying import RETRY_SECONDS
from flowhook.tracing.tracer import SpanKind, Value
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import status
from runner.components.base import Component, Context, component
from runner.interpreter.effects import EMIT, RUN_WORKFLOW
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.json_codec import encode
from runner.outbound.call_trace import traced

DEADLINE: Final = 5.0  # seconds for one call to the router
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_BUSY: Final = 429
_OK: Final = range(200, 300)

log = logs.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")


class RunWorkflowArguments(BaseModel):
    """Arguments of `run.workflow`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    flow: str
    version: str
    input: Any
    parent: str
    depth: int
    key: str


def cluster_components(channel: grpc.aio.Channel) -> Mapping[str, Component]:
    """Return the components by name; they call the router over `channel`."""
    stub = runner_service_pb2_grpc.RunnerServiceStub(channel)

    @component(EMIT)
    async def emit(
        event: dict[str, Any], execution: str, depth: int, sink: StrictStr | None, context: Context
    ) -> dict[str, int]:
        key = context.idempotency_key
        request = pb.EmitEventRequest(event=encode(event), execution_id=execution, depth=depth, idempotency_key=key)
        response = await _call(stub.EmitEvent, request)
        await _send_to_sink(event, sink, context)
        return {"receivers": response.receivers}

    @component(RUN_WORKFLOW)
    async def start(arguments: RunWorkflowArguments, context: Context) -> dict[str, str]:  # noqa: ARG001 - components have one
        request = pb.StartExecutionRequest(
            flow_id=arguments.flow,
            version=arguments.version,
            input=encode(arguments.input),
            parent_execution_id=arguments.parent,
            parent_depth=arguments.depth,
            idempotency_key=arguments.key,
        )
        about: dict[str, Value] = {
            "messaging.system": "flowhook",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": arguments.flow,
        }
        with traced(f"send {arguments.flow}", SpanKind.PRODUCER, about) as trace:
            if trace.context is not None:
                request.traceparent = trace.context.traceparent
            started = (await _call(stub.StartExecution, request)).execution_id
            trace.set("messaging.message.id", started)
        return {"execution": started}

    return {each.name: each for each in (emit, start)}


async def _call(call: Callable[..., Awaitable[Response]], request: Request) -> Response:
    """Call the router, and retry while it is unavailable, until the effect's deadline cancels this."""
    while True:
        try:
            return await call(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            problem = status.from_rpc_error(error)
        if not isinstance(problem, UnavailableError):
            raise _refusal(problem) from None
        log.debug("router not available", reason=problem.reason)
        await asyncio.sleep(RETRY_SECONDS)


def _refusal(problem: FlowhookError) -> TaskFault:
    match problem:
        case ExhaustedError(retry_after=seconds):
            return fault(Kind.COMMUNICATION, problem.message, status=_BUSY, retry_after_ms=seconds * 1000)
        case InvalidError(reason="WORKFLOW_TOO_DEEP"):
            return fault(Kind.RUNTIME, problem.message)
        case NotFoundError() | InvalidError():
            return fault(Kind.CONFIGURATION, problem.message)
    return fault(Kind.COMMUNICATION, problem.message)


@component(EMIT)
async def _emit_locally(
    event: dict[str, Any],
    execution: str,  # noqa: ARG001 - components have one
    depth: int,  # noqa: ARG001 - components have one
    sink: StrictStr | None,
    context: Context,
) -> dict[str, int]:
    await _send_to_sink(event, sink, context)
    return {"receivers": 0}


@component(RUN_WORKFLOW)
async def _refuse(arguments: RunWorkflowArguments, context: Context) -> None:  # noqa: ARG001 - components have one
    raise fault(Kind.CONFIGURATION, f"{arguments.flow} can't be run without a cluster; start one by flowhook up")


LOCAL_COMPONENTS: Final = {each.name: each for each in (_emit_locally, _refuse)}


async def _send_to_sink(event: dict[str, Any], sink: str | None, context: Context) -> None:
    """Send an event to its sink, else to that of the settings; without either nothing is sent."""
    url = sink or context.settings.event_sink
    if not url:
        return
    response = await context.http.request("POST", url, headers={"Content-Type": CONTENT_TYPE}, body=encode(event))
    if response.status not in _OK:
        raise fault(
            Kind.COMMUNICATION,
            f"the event sink {response.url} answered {response.status}",
            status=response.status if response.status in range(300, 600) else None,
            retry_after_ms=response.retry_after_ms,
        )
