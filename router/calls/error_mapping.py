"""Maps `flowhook.errors` raised by a service's method to a gRPC status with ErrorInfo."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from flowhook import limits
from flowhook.errors import FlowhookError, InternalError, InvalidError
from flowhook.process import logs
from flowhook.wire import status

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[Any, Any]
Write = Callable[[Any], Awaitable[None]]
"""Sends one response of a stream."""

MAX_REQUEST_ID: Final = 64

# serialized size of a request that stays in memory while its stream is open; such a request only contains IDs
MAX_HELD_BYTES: Final = limits.KIB
log = logs.get_logger(__name__)


def check_request_size(request: Message) -> None:
    """Refuse a request that opens a stream and is larger than any valid one."""
    if request.ByteSize() > MAX_HELD_BYTES:
        raise InvalidError(
            f"the request of a stream must have at most {MAX_HELD_BYTES} bytes", reason="REQUEST_TOO_LARGE"
        )


def check_request_id(request_id: str) -> None:
    if len(request_id) > MAX_REQUEST_ID or not request_id.isascii():
        raise InvalidError(
            f"`request_id` must have at most {MAX_REQUEST_ID} ASCII characters", reason="REQUEST_ID_INVALID"
        )


def unary_rpc(
    implementation: Callable[[Servicer, Request], Awaitable[Response]],
) -> Callable[[Servicer, Request, Context], Awaitable[Response]]:
    """Decorate a method that returns one response to one request."""
    return _guarded(implementation, lambda self, request, _context: implementation(self, request))


def server_stream_rpc(implementation: Callable[[Servicer, Any, Write], Awaitable[None]]) -> Any:
    """Decorate a method that answers one request, which is small, by a stream of responses.

    Streams are written rather than yielded: a generator that is no longer resumed is closed at some later time, while a
    cancelled coroutine cleans up at once.

    Raises:
        InvalidError: from the decorated method: the request is larger than any valid one (`REQUEST_TOO_LARGE`).
    """

    def start(self: Servicer, request: Any, context: Context) -> Awaitable[None]:
        check_request_size(request)
        return implementation(self, request, context.write)

    return _guarded(implementation, start)


def request_stream_rpc(implementation: Callable[[Servicer, Any, Context], Awaitable[Any]]) -> Any:
    """Decorate a method that reads a stream of requests, and returns one response or writes a stream of them."""
    return _guarded(implementation, implementation)


def _guarded(
    implementation: Callable[..., Any], start: Callable[[Servicer, Request, Context], Awaitable[Response]]
) -> Callable[[Servicer, Request, Context], Awaitable[Response]]:
    @functools.wraps(implementation)
    async def guarded(self: Servicer, request: Request, context: Context) -> Response:
        try:
            return await start(self, request, context)
        except FlowhookError as error:
            await status.abort(context, error)
        except Exception as error:  # noqa: BLE001 - the boundary: reported to the operator, not to the caller
            await status.abort(context, internal_error(implementation.__qualname__, error))

    return guarded


def internal_error(method: str, error: Exception) -> InternalError:
    """Log an unexpected error of a method and return the error for its caller; re-raise an abort by gRPC."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    log.error("call failed", method=method, exc_info=error)
    return InternalError("internal error; see the router's log")
