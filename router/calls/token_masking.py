"""Masks the tokens of one-time callback URLs in what callers get that may only view.

Such a token is a credential: anyone who has it may send the callback, and so decide for the flow. It may stand in
journals, outputs, errors, and bodies of executions that were started by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from flowhook import limits
from flowhook.security import callback_tokens
from flowhook.security.tokens import TokenScope
from flowhook.v1 import execution_service_pb2
from router.calls import error_mapping
from router.calls.authorization import caller_scopes

# services whose responses contain data of executions, requests, or what operators wrote about them
_SERVICES: Final = (
    "/flowhook.v1.ExecutionService/",
    "/flowhook.v1.JobService/",
    "/flowhook.v1.RejectionService/",
    "/flowhook.v1.AuditService/",
)
# fields whose size stands elsewhere, too: a mask has the size of the token
_BODIES: Final = frozenset(
    {"flowhook.v1.Event.body", "flowhook.v1.ReadBodyResponse.chunk", "flowhook.v1.Rejection.body"}
)
LARGE: Final = 16 * limits.KIB  # bytes of a response beyond which a thread searches it
_WINDOW: Final = 64 * limits.KIB  # bytes searched at a time: the search holds the GIL


class TokenMasking(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # not generic at run time
    """Masks tokens in responses to callers without the scope `admin`. It stands behind the `Authorizer`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call, wrapped if its responses may contain tokens."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if not method.startswith(_SERVICES) or handler is None:
            return handler
        coders = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(_masked_call(handler.unary_unary), *coders)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(_masked_stream(handler.unary_stream), *coders)
        return handler  # of edges, which verify requests as they were


def _may_see_tokens() -> bool:
    return TokenScope.ADMIN in caller_scopes.get()  # known once the call is authorized


def _masked_call(perform: Any) -> Callable[[Any, Any], Awaitable[Message]]:
    async def call(request: Message, context: error_mapping.Context) -> Message:
        response: Message = await perform(request, context)
        return response if _may_see_tokens() else await _mask(response)

    return call


def _masked_stream(perform: Any) -> Callable[[Any, Any], Awaitable[None]]:
    async def stream(request: Message, context: error_mapping.Context) -> None:
        if _may_see_tokens():
            await perform(request, context)
            return
        masking = _MaskingContext(context)
        await perform(request, masking)
        await masking.finish()

    return stream


class _MaskingContext:
    """The context of a call that streams responses; masks them.

    Of a body, the last bytes wait for the next chunk, because a token may stand in both.
    """

    def __init__(self, context: error_mapping.Context) -> None:
        self._context = context
        self._rest = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Message) -> None:
        """Write a response."""
        if not isinstance(message, execution_service_pb2.ReadBodyResponse):
            await self._context.write(await _mask(message))
            return
        masked = await _mask(execution_service_pb2.ReadBodyResponse(chunk=self._rest + message.chunk))
        data, self._rest = masked.chunk[: -callback_tokens.MAX_LENGTH], masked.chunk[-callback_tokens.MAX_LENGTH :]
        if data:
            await self._context.write(execution_service_pb2.ReadBodyResponse(chunk=data))

    async def finish(self) -> None:
        """Write what waits."""
        if self._rest:
            await self._context.write(execution_service_pb2.ReadBodyResponse(chunk=self._rest))


async def _mask(message: Any) -> Any:
    """Return a message with the tokens masked; the message itself if it has none, or is changed."""
    return _masked(message) if message.ByteSize() <= LARGE else await asyncio.to_thread(_masked, message)


def _masked(message: Any) -> Any:
    data = message.SerializeToString()
    step = _WINDOW - callback_tokens.MAX_LENGTH
    if any(callback_tokens.contains(data[start : start + _WINDOW]) for start in range(0, len(data), step)):
        _mask_fields(message)
    if isinstance(message, execution_service_pb2.GetExecutionResponse) and message.HasField("cut_body_size"):
        message.event.body = callback_tokens.mask_end(message.event.body)
    return message


def _mask_fields(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                _mask_fields(each)
        elif field.type == FieldDescriptor.TYPE_STRING:
            _replace(message, field, value, callback_tokens.mask)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            _replace(message, field, value, _mask_body if field.full_name in _BODIES else _mask_bytes)


def _replace(message: Message, field: FieldDescriptor, value: Any, mask: Callable[[Any], Any]) -> None:
    if field.is_repeated:
        value[:] = [mask(each) for each in value]
    else:
        setattr(message, field.name, mask(value))


def _mask_bytes(data: bytes) -> bytes:
    return callback_tokens.mask(data.decode("latin-1"), _MASK_BYTES).encode("latin-1")


def _mask_body(data: bytes) -> bytes:
    return callback_tokens.mask(data.decode("latin-1"), "*").encode("latin-1")


_MASK_BYTES: Final = callback_tokens.MASK.encode().decode("latin-1")
