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
from typing_extensions import override

from flowhook.errors import InvalidError
from flowhook.wire import status
from router.calls.interception import Handler, Interceptor, behavior_of, with_behavior


def _undecodable() -> InvalidError:
    return InvalidError("a message of this call can't be decoded", reason="MESSAGE_INVALID")


class MessageDecoding(Interceptor):
    """Refuses calls whose messages can't be decoded. It is the last interceptor: others see a call that is refused."""

    def __init__(self) -> None:
        self._handlers: dict[int, tuple[Any, Any]] = {}  # by the ID of a handler: itself, and the one that wraps it

    @override
    def wrap(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        if handler.request_deserializer is None:
            return handler
        known = self._handlers.get(id(handler))
        if known is None:
            known = self._handlers[id(handler)] = handler, _refusing(handler)
        wrapped: Handler = known[1]
        return wrapped


def _refusing(handler: Any) -> Handler:
    deserialize = handler.request_deserializer
    undecoded = deserialize(b"")  # stands for messages that can't be decoded

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except (DecodeError, ValueError):
            return undecoded

    checked = _checked_stream if handler.request_streaming else _checked
    return with_behavior(handler, checked(behavior_of(handler), undecoded), decode)


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
