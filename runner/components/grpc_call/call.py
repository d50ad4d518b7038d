"""One call of a gRPC method: arguments in, JSON out; gRPC statuses become errors of the DSL.

Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (statuses of HTTP),
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto (RetryInfo).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from pydantic import Field

from flowhook import limits
from flowhook.document.models.calls import FULL_NAME, HOST, IDENTIFIER, GrpcArguments, GrpcService
from flowhook.tracing.tracer import SpanKind, Value
from runner.components.base import Context, component, time_left
from runner.components.grpc_call.channels import pooled_channel, target_of
from runner.components.grpc_call.schemas import GrpcMethod, Metadata, SchemaCache, ServiceSchema
from runner.components.resource import Resource
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.json_codec import encode
from runner.outbound.bound_client import Authorization
from runner.outbound.call_trace import Exchange, traced
from runner.outbound.http_response import to_delay_ms
from runner.outbound.policies import Policy

MEANINGS: Final = {
    StatusCode.CANCELLED: (Kind.COMMUNICATION, 499),
    StatusCode.UNKNOWN: (Kind.COMMUNICATION, 500),
    StatusCode.INVALID_ARGUMENT: (Kind.COMMUNICATION, 400),
    StatusCode.DEADLINE_EXCEEDED: (Kind.TIMEOUT, 408),
    StatusCode.NOT_FOUND: (Kind.COMMUNICATION, 404),
    StatusCode.ALREADY_EXISTS: (Kind.COMMUNICATION, 409),
    StatusCode.PERMISSION_DENIED: (Kind.AUTHORIZATION, 403),
    StatusCode.RESOURCE_EXHAUSTED: (Kind.COMMUNICATION, 429),
    StatusCode.FAILED_PRECONDITION: (Kind.COMMUNICATION, 400),
    StatusCode.ABORTED: (Kind.COMMUNICATION, 409),
    StatusCode.OUT_OF_RANGE: (Kind.COMMUNICATION, 400),
    StatusCode.UNIMPLEMENTED: (Kind.COMMUNICATION, 501),
    StatusCode.INTERNAL: (Kind.COMMUNICATION, 500),
    StatusCode.UNAVAILABLE: (Kind.COMMUNICATION, 503),
    StatusCode.DATA_LOSS: (Kind.COMMUNICATION, 500),
    StatusCode.UNAUTHENTICATED: (Kind.AUTHENTICATION, 401),
}

_DETAILS: Final = "grpc-status-details-bin"
# message of the local gRPC client, reported as if the server had sent it
_TOO_LARGE: Final = "CLIENT: Received message larger than max"
MAX_MESSAGES: Final = 10_000  # maximum number of messages in one stream, in either direction
_THREAD_BYTES: Final = 64 * limits.KIB  # messages from this size on are converted in a thread
_METADATA_VALUE: Final = re.compile(r"[ -~]*")


def _fault_of(arguments: EvaluatedGrpcArguments, problem: grpc.aio.AioRpcError) -> TaskFault:
    what = f"{arguments.service.name}/{arguments.method}"
    code, said = problem.code(), problem.details() or ""
    if code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in said:
        return fault(Kind.COMMUNICATION, f"{what}: a message of the response is too large")
    kind, status = MEANINGS[code]
    detail = f"{what} answered {code.name}" + (f": {said}" if said else "")
    return fault(kind, detail, status=status, retry_after_ms=_retry_after_ms(problem))


def _retry_after_ms(problem: grpc.aio.AioRpcError) -> int:
    """Return the wait before a retry that the server asks for; 0: none."""
    try:
        metadata: Any = problem.trailing_metadata() or ()
        for key, value in metadata:
            if key == _DETAILS and isinstance(value, bytes):
                for detail in status_pb2.Status.FromString(value).details:
                    info = error_details_pb2.RetryInfo()
                    if detail.Unpack(info):
                        return to_delay_ms(info.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, ValueError, OverflowError):
        pass  # invalid details don't change how the call fails
    return 0


Converted = TypeVar("Converted")


class EvaluatedService(GrpcService):
    """`service`, evaluated."""

    name: Annotated[str, Field(pattern=f"^{FULL_NAME}$", max_length=255)]
    host: Annotated[str, Field(pattern=f"^{HOST}$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


class EvaluatedGrpcArguments(GrpcArguments):
    """Evaluated arguments of a `call: grpc`."""

    service: EvaluatedService
    method: Annotated[str, Field(pattern=f"^{IDENTIFIER}$", max_length=255)]
    proto: Resource | None = None
    arguments: dict[str, Any] | Annotated[list[dict[str, Any]], Field(max_length=MAX_MESSAGES)] = Field(
        default_factory=dict
    )


@component("grpc")
async def call(arguments: EvaluatedGrpcArguments, context: Context) -> Any:
    """Call a gRPC method; a stream that it answers with becomes an array."""
    schemas, service = context.shared.get(SchemaCache), arguments.service
    schema = None if arguments.proto is None else await schemas.compiled(arguments.proto, context)
    with context.calling(f"grpc://{target_of(service.host, service.port)}"):
        return await _call_authorized(arguments, schema, context)


async def _call_authorized(arguments: EvaluatedGrpcArguments, schema: ServiceSchema | None, context: Context) -> Any:
    shown = await _authorization(arguments.service.authentication, context)
    try:
        try:
            return await _call(arguments, schema, shown, context)
        except grpc.aio.AioRpcError as problem:
            if shown is None or not shown.cached or problem.code() is not StatusCode.UNAUTHENTICATED:
                raise
        shown = await _authorization(arguments.service.authentication, context, refused=shown)
        return await _call(arguments, schema, shown, context)
    except grpc.aio.AioRpcError as problem:
        raise _fault_of(arguments, problem) from None


async def _call(
    arguments: EvaluatedGrpcArguments, schema: ServiceSchema | None, shown: Authorization | None, context: Context
) -> Any:
    service = arguments.service
    target = target_of(service.host, service.port)
    metadata = () if shown is None else (("authorization", shown.value),)
    async with pooled_channel(target, context) as channel:
        if schema is None:
            schemas = context.shared.get(SchemaCache)
            schema = await schemas.reflected(channel, target, service.name, metadata, time_left(context))
        method = schema.method(service.name, arguments.method)
        requests = await _encoded(method, arguments.arguments)
        with _traced(method, service) as trace:
            metadata = (*metadata, ("idempotency-key", context.idempotency_key), *trace.headers.items())
            answers = await _exchange(channel, method, requests, metadata, time_left(context))
    decoded = await _beside(sum(map(len, answers)), lambda: [method.decode(answer) for answer in answers])
    return decoded if method.streams_responses else decoded[0]


async def _authorization(
    policy: Policy | None, context: Context, *, refused: Authorization | None = None
) -> Authorization | None:
    if policy is None:
        return None
    shown = await context.http.authorization(policy, refused=refused)
    if not _METADATA_VALUE.fullmatch(shown.value):
        detail = "grpc: with.service.authentication: the credentials contain characters that are not printable ASCII"
        raise fault(Kind.CONFIGURATION, detail)
    return shown


async def _encoded(method: GrpcMethod, given: dict[str, Any] | list[dict[str, Any]]) -> list[bytes]:
    if isinstance(given, list) and not method.streams_requests:
        detail = f"grpc: with.arguments: {method.path} takes one message, so this must be an object, not an array"
        raise fault(Kind.CONFIGURATION, detail)
    messages = given if isinstance(given, list) else [given]
    return await _beside(len(encode(messages)), lambda: [method.encode(message) for message in messages])


@contextmanager
def _traced(method: GrpcMethod, service: EvaluatedService) -> Iterator[Exchange]:
    name = method.path.removeprefix("/")
    about: dict[str, Value] = {"rpc.system.name": "grpc", "rpc.method": name, "server.address": service.host}
    if service.port:
        about["server.port"] = service.port
    with traced(name, SpanKind.CLIENT, about) as trace:
        try:
            yield trace
        except grpc.aio.AioRpcError as problem:
            trace.set("rpc.status_code", problem.code().name)
            raise
        trace.set("rpc.status_code", "OK")


async def _exchange(
    channel: grpc.aio.Channel, method: GrpcMethod, requests: Sequence[bytes], metadata: Metadata, seconds: float
) -> list[bytes]:
    """Send all requests and return all responses; only one if the method does not stream them."""
    # A stream of one message is sent as a unary request, which is the same to the server: when a server ends a stream
    # that is still being written, grpc.aio may lose the status (https://github.com/grpc/grpc/issues/36066).
    streams = len(requests) != 1
    kind = f"{'stream' if streams else 'unary'}_{'stream' if method.streams_responses else 'unary'}"
    start = getattr(channel, kind)(method.path)
    call = start(iter(requests) if streams else requests[0], metadata=metadata, timeout=seconds)
    if not method.streams_responses:
        return [await call]
    answers: list[bytes] = []
    size = 0
    try:
        async for answer in call:
            answers.append(answer)
            size += len(answer)
            if len(answers) > MAX_MESSAGES or size > limits.MAX_RESULT_BYTES:
                most = f"{MAX_MESSAGES} messages, or {limits.MAX_RESULT_BYTES} bytes"
                raise fault(Kind.COMMUNICATION, f"{method.path} answers with more than {most}")
    finally:
        call.cancel()
    return answers


async def _beside(size: int, convert: Callable[[], list[Converted]]) -> list[Converted]:
    """Return the result of `convert`, run in a thread if there is much data, so as not to block the event loop."""
    return convert() if size < _THREAD_BYTES else await asyncio.to_thread(convert)
