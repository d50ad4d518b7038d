"""Limits of the calls in progress at a router, and the deadline of each message that is sent on a stream."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote

import attrs
import grpc
import grpc.aio

from flowhook.errors import ExhaustedError, FlowhookError
from flowhook.sharing import Principal, Seat, SharedLimit, current_principal
from flowhook.sharing.addresses import address_principal
from flowhook.sharing.table import RouterLimits
from flowhook.wire import status
from router.calls.error_mapping import Context

# All callers without a token. Their address is known only once their handler runs.
ANONYMOUS: Final = Principal("caller", "")


class CallLimits:
    """The calls in progress. They are counted from their authorization until gRPC has ended them."""

    def __init__(self, limits: RouterLimits) -> None:
        self._calls = SharedLimit(limits.calls)
        self._streams = SharedLimit(limits.streams)
        self._anonymous_streams = SharedLimit(limits.anonymous_streams)
        self._send_seconds = limits.send_seconds

    def admit(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Count the call that the current task serves, and return what handles it within the limits.

        Raises:
            ExhaustedError: the principal has its share of calls (`TOO_MANY_CALLS`).
            UnavailableError: there is no room for more calls (`CALLS_FULL`).
        """
        seat = self._calls.acquire(current_principal.get())
        task = asyncio.current_task()
        assert task is not None, "gRPC serves each call in a task"  # noqa: S101 - for the type checker
        # also for a caller that never sends its request, whose handler is never called
        task.add_done_callback(lambda _task: seat.release())
        if not handler.response_streaming:
            return handler
        behavior: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        make_handler = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )

        async def stream(request: Any, context: Context) -> None:
            limited = _LimitedContext(context, self._send_seconds)
            try:
                seat = self._stream_seat(context)
            except FlowhookError as error:
                await status.abort(context, error)
            # not released when a message can't be sent, but when the caller has read the error or is gone: until then
            # gRPC keeps the message in memory
            with seat:
                await behavior(request, limited)

        return make_handler(stream, handler.request_deserializer, handler.response_serializer)

    def _stream_seat(self, context: Context) -> Seat:
        principal = current_principal.get()
        if principal is ANONYMOUS:
            return self._anonymous_streams.acquire(_peer(context.peer()))
        return self._streams.acquire(principal)


@attrs.define(eq=False, repr=False)
class _LimitedContext:
    """The context of a call that streams responses; limits the time that sending one takes.

    What can't be sent because the caller is gone ends the call as gRPC's own cancellation does, without a trace in the
    log. gRPC reports it as an internal error if the caller leaves while something waits to be sent.
    """

    _context: Context
    _seconds: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Write a response.

        Raises:
            ExhaustedError: the caller does not read (`STREAM_NOT_READ`).
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._context.write(message)
        except TimeoutError:
            raise ExhaustedError(
                f"the stream was not read for {self._seconds:g} s: open it again, and read it faster",
                reason="STREAM_NOT_READ",
            ) from None
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with an error."""
        try:
            await self._context.abort(code, details, trailing_metadata)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None


def _peer(peer: str) -> Principal:
    """Return the principal of a peer as gRPC names it: `ipv4:192.0.2.1:5000`, `ipv6:%5B2001:db8::1%5D:5000`."""
    kind, _, rest = peer.partition(":")
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    return address_principal(ip_address(host)) if kind in ("ipv4", "ipv6") else Principal("address", peer)
