"""Masks the tokens of one-time callback URLs in what callers get that may only view.

Such a token is a credential: anyone who has it may send the callback, and so decide for the flow. It may stand in
journals, outputs, errors, and bodies of executions that were started by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from typing_extensions import override

from flowhook import limits
from flowhook.security import callback_tokens
from flowhook.security.tokens import TokenScope
from flowhook.v1 import execution_service_pb2
from router.calls import error_mapping
from router.calls.authorization import caller
from router.calls.interception import ContextProxy, Handler, Interceptor, behavior_of, with_behavior

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


class TokenMasking(Interceptor):
    """Masks tokens in responses to callers without the scope `admin`. It stands behind the `Authorizer`."""

    @override
    def wrap(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        # those that stream requests are of edges, which verify requests as they were
        if not details.method.startswith(_SERVICES) or handler.request_streaming:
            return handler
        masked = _masked_stream if handler.response_streaming else _masked_call
        return with_behavior(handler, masked(behavior_of(handler)))


def _may_see_tokens() -> bool:
    return TokenScope.ADMIN in caller.get().scopes  # known once the call is authorized


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


@attrs.define(eq=False, repr=False)
class _MaskingContext(ContextProxy):
    """Masks responses. Of a body, the last bytes wait for the next chunk, because a token may stand in both."""

    _rest: bytes = attrs.field(init=False, default=b"")

    async def write(self, message: Message) -> None:
        if not isinstance(message, execution_service_pb2.ReadBodyResponse):
            await self._context.write(await _mask(message))
            return
        masked = await _mask(execution_service_pb2.ReadBodyResponse(chunk=self._rest + message.chunk))
        data, self._rest = masked.chunk[: -callback_tokens.MAX_LENGTH], masked.chunk[-callback_tokens.MAX_LENGTH :]
        if data:
            await self._context.write(execution_service_pb2.ReadBodyResponse(chunk=data))

    async def finish(self) -> None:
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
            mask = partial(_mask_bytes, by="*") if field.full_name in _BODIES else _mask_bytes
            _replace(message, field, value, mask)


def _replace(message: Message, field: FieldDescriptor, value: Any, mask: Callable[[Any], Any]) -> None:
    if field.is_repeated:
        value[:] = [mask(each) for each in value]
    else:
        setattr(message, field.name, mask(value))


def _mask_bytes(data: bytes, by: str = callback_tokens.MASK.encode().decode("latin-1")) -> bytes:
    return callback_tokens.mask(data.decode("latin-1"), by).encode("latin-1")
