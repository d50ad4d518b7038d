"""Limits of the calls in progress at a router, and the deadline of each message that is sent on a stream."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any, Final

import attrs
import grpc
import grpc.aio

from flowhook.errors import ExhaustedError, FlowhookError
from flowhook.sharing import Principal, Seat, SharedLimit, current_principal
from flowhook.sharing.limit import address_principal
from flowhook.sharing.table import RouterLimits
from flowhook.wire import status
from router.calls.error_mapping import Context
from router.calls.interception import ContextProxy, behavior_of, peer_host, with_behavior

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
        behavior = behavior_of(handler)

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

        return with_behavior(handler, stream)

    def _stream_seat(self, context: Context) -> Seat:
        principal = current_principal.get()
        if principal is ANONYMOUS:
            kind, host = context.peer().partition(":")[0], peer_host(context.peer()).partition("%")[0]
            is_address = kind in ("ipv4", "ipv6")
            peer = address_principal(ip_address(host)) if is_address else Principal("address", context.peer())
            return self._anonymous_streams.acquire(peer)
        return self._streams.acquire(principal)


@attrs.define(eq=False, repr=False)
class _LimitedContext(ContextProxy):
    """Limits the time that sending a response takes.

    What can't be sent because the caller is gone ends the call as gRPC's own cancellation does, without a trace in the
    log. gRPC reports it as an internal error if the caller leaves while something waits to be sent.
    """

    _seconds: float

    async def write(self, message: Any) -> None:
        """Write a response; ExhaustedError: the caller does not read (`STREAM_NOT_READ`)."""
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
        try:
            await self._context.abort(code, details, trailing_metadata)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None
