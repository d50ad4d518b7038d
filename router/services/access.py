"""Who may call what: every call carries a bearer token, whose scopes the called method must accept.

Source: RFC 6750, section 2.1 (`authorization: Bearer TOKEN`). Health and reflection take any valid token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import grpc
import grpc.aio

from flowhook.errors import FlowhookError, PermissionDeniedError, UnauthenticatedError
from flowhook.tokens import Scope, TokenVerifier
from flowhook.wire import status

_ADMIN: Final = frozenset({Scope.ADMIN})
_ANY: Final = frozenset(Scope)
_SERVICES: Final[Mapping[str, frozenset[Scope]]] = {
    "flowhook.v1.IngestService": frozenset({Scope.INGEST}),
    "flowhook.v1.FlowService": _ADMIN,
    "flowhook.v1.SecretService": _ADMIN,
    "flowhook.v1.ExecutionService": _ADMIN,
    "flowhook.v1.RunnerService": frozenset({Scope.RUN}),
    "flowhook.v1.ClusterService": _ADMIN,
    "flowhook.v1.RejectionService": _ADMIN,
    "grpc.health.v1.Health": _ANY,
    "grpc.reflection.v1alpha.ServerReflection": _ANY,
}
_METHODS: Final[Mapping[str, frozenset[Scope]]] = {
    "/flowhook.v1.FlowService/GetFlow": frozenset({Scope.ADMIN, Scope.VERIFY, Scope.RUN}),
    "/flowhook.v1.FlowService/FindFlows": frozenset({Scope.ADMIN, Scope.VERIFY}),
    "/flowhook.v1.FlowService/WatchFlows": frozenset({Scope.ADMIN, Scope.VERIFY, Scope.RUN}),
    "/flowhook.v1.SecretService/ResolveSecrets": frozenset({Scope.VERIFY, Scope.RUN}),
    "/flowhook.v1.ClusterService/ReportProcess": _ANY,
    "/flowhook.v1.RejectionService/ReportRejections": frozenset({Scope.INGEST}),
}

caller_scopes: ContextVar[frozenset[Scope]] = ContextVar("caller_scopes", default=frozenset())
"""Scopes of the token that the current call presented."""


def scopes_for(method: str) -> frozenset[Scope]:
    """Return the scopes of which a caller of `method` (`/package.Service/Method`) needs one; empty: nobody may."""
    special = _METHODS.get(method)
    return _SERVICES.get(method[1:].partition("/")[0], frozenset()) if special is None else special


class Authorizer(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # not generic at run time
    """Refuses calls without a token (UNAUTHENTICATED) or without the scope (PERMISSION_DENIED)."""

    def __init__(self, tokens: TokenVerifier) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Let a call through, or answer it with the refusal."""
        # the stubs forget that there is none for a method nobody knows
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(handler_call_details)
        try:
            scopes = self._authenticate(handler_call_details)
            if handler is not None and not scopes & scopes_for(handler_call_details.method):
                raise PermissionDeniedError(
                    f"this token has not the scope for {handler_call_details.method}", reason="SCOPE_MISSING"
                )
        except FlowhookError as error:
            # the handler must be of the method's own kind, or gRPC answers INTERNAL
            return _refusal(handler, error)
        caller_scopes.set(scopes)
        return handler

    def _authenticate(self, details: grpc.HandlerCallDetails) -> frozenset[Scope]:
        header = next((value for key, value in details.invocation_metadata or () if key == "authorization"), "")
        scheme, _, token = (header if isinstance(header, str) else "").partition(" ")
        scopes = self._tokens.scopes(token.strip()) if scheme.lower() == "bearer" and token else None
        if scopes is None:
            cause = "the token is not valid" if token else "a bearer token is needed"
            raise UnauthenticatedError(
                f"{cause}: set FLOWHOOK_TOKEN, or FLOWHOOK_DATA_DIR to the router's data directory"
            )
        return scopes


def _refusal(handler: grpc.RpcMethodHandler[Any, Any] | None, error: FlowhookError) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await status.abort(context, error)

    if handler is None or not (handler.request_streaming or handler.response_streaming):
        return grpc.unary_unary_rpc_method_handler(refuse)
    if not handler.response_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if not handler.request_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.stream_stream_rpc_method_handler(refuse)
