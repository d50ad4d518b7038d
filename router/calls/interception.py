"""Base class and helpers of the interceptors of the router's gRPC server: they wrap the handlers of calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import attrs
import grpc
import grpc.aio
from typing_extensions import override

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# by whether requests and responses are streams: the handler's attribute, and what makes such a handler
_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def behavior_of(handler: Any) -> Any:
    return getattr(handler, _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)][0])


def with_behavior(handler: Any, behavior: Any, decode: Any = None) -> Handler:
    """Return a handler of the same kind that serves a call by another function, and decodes messages by `decode`."""
    _, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(behavior, decode or handler.request_deserializer, handler.response_serializer)


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # not generic at run time
    """An interceptor that wraps handlers."""

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        # unlike what the stubs say, there is no handler for an unknown method
        handler: Handler | None = await continuation(handler_call_details)
        return None if handler is None else self.wrap(handler, handler_call_details)

    def wrap(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        raise NotImplementedError


@attrs.define(eq=False, repr=False)
class ContextProxy:
    """The context of a call, some of whose methods do more."""

    _context: grpc.aio.ServicerContext[Any, Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def peer_host(peer: str) -> str:
    """Return the address of a peer as gRPC names it: `ipv4:192.0.2.1:5000`, `ipv6:%5B2001:db8::1%5D:5000`."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
