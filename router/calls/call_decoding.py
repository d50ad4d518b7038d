"""Answers gRPC calls whose message can't be decoded, and logs no error: the caller is at fault.

Messages that are no protobuf: gRPC's asyncio server would log a traceback for each and answer UNKNOWN. Here they are
refused with INVALID_ARGUMENT (`MESSAGE_INVALID`).

Metadata and methods that are no UTF-8: see `flowhook.process.logs.silence_decoding`. gRPC takes such metadata for
Latin-1, so a token is unknown, and cancels a call whose method it can't decode. (From 1.84 on, such a method ends the
whole server: see `pyproject.toml`.)

Source: grpc/src/python/grpcio/grpc/_cython/_cygrpc: grpc_string.pyx.pxi and aio/server.pyx.pxi of 1.83.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from flowhook.errors import InvalidError
from flowhook.wire import status


def _undecodable() -> InvalidError:
    return InvalidError("a message of this call can't be decoded", reason="MESSAGE_INVALID")


class MessageDecoding(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # not generic at run time
    """Refuses calls whose messages can't be decoded. It is the last interceptor: others see a call that is refused."""

    def __init__(self) -> None:
        self._handlers: dict[int, tuple[Any, Any]] = {}  # by the ID of a handler: itself, and the one that wraps it

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call, which refuses what it can't decode."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        known = self._handlers.get(id(handler))
        if known is None:
            known = self._handlers[id(handler)] = handler, _refusing(handler)
        return known[1]


def _refusing(handler: Any) -> Any:
    deserialize, serialize = handler.request_deserializer, handler.response_serializer
    undecoded = deserialize(b"")  # stands for messages that can't be decoded

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except (DecodeError, ValueError):
            return undecoded

    match bool(handler.request_streaming), bool(handler.response_streaming):
        case False, False:
            checked = _checked(handler.unary_unary, undecoded)
            return grpc.unary_unary_rpc_method_handler(checked, decode, serialize)
        case False, True:
            checked = _checked(handler.unary_stream, undecoded)
            return grpc.unary_stream_rpc_method_handler(checked, decode, serialize)
        case True, False:
            checked = _checked_stream(handler.stream_unary, undecoded)
            return grpc.stream_unary_rpc_method_handler(checked, decode, serialize)
    return grpc.stream_stream_rpc_method_handler(_checked_stream(handler.stream_stream, undecoded), decode, serialize)


def _checked(behavior: Any, undecoded: Any) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request is undecoded:
            await status.abort(context, _undecodable())
        return await behavior(request, context)

    return call


def _checked_stream(behavior: Any, undecoded: Any) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        answer = behavior(_Decoded(requests, undecoded), context)
        if not inspect.isasyncgen(answer):
            return await answer
        try:
            async for response in answer:  # gRPC's own services yield
                await context.write(response)
        except InvalidError as error:
            await status.abort(context, error)

    return call


@attrs.define(eq=False, repr=False)
class _Decoded:
    """The messages of a call; raises InvalidError (`MESSAGE_INVALID`) for one that can't be decoded."""

    _messages: AsyncIterator[Any]
    _undecoded: Any

    def __aiter__(self) -> _Decoded:
        return self

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        if message is self._undecoded:
            raise _undecodable()
        return message
