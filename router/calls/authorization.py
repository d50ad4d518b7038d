"""Authorises gRPC calls: each call carries a bearer token, and its method requires one of the token's scopes.

The messages of refused calls are not read. gRPC reads the message of a unary call, up to 32 MiB, before its handler
runs. So a refusal is a streaming handler that reads nothing, and only the bytes that flow control admits in advance are
received. The same applies to health checks without a token, which are allowed because kubelets have none. Reflection
accepts any valid token.

Source: RFC 6750, section 2.1 (`authorization: Bearer TOKEN`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import attrs
import grpc
import grpc.aio

from flowhook.errors import FlowhookError, PermissionDeniedError, UnauthenticatedError
from flowhook.security.token_verifier import TokenGrant, TokenVerifier
from flowhook.security.tokens import TokenScope
from flowhook.sharing import Principal, current_principal
from flowhook.wire import status
from router.calls.call_limits import ANONYMOUS, CallLimits

# scopes for services that reveal nothing about flows and accept any valid token
_ADMIN: Final = frozenset({TokenScope.ADMIN})
_READ: Final = frozenset({TokenScope.ADMIN, TokenScope.VIEW})
_ANY: Final = frozenset(TokenScope)
_SERVICES: Final[Mapping[str, frozenset[TokenScope]]] = {
    "flowhook.v1.IngestService": frozenset({TokenScope.INGEST}),
    "flowhook.v1.FlowService": _ADMIN,
    "flowhook.v1.SecretService": _ADMIN,
    "flowhook.v1.ExecutionService": _ADMIN,
    "flowhook.v1.JobService": _ADMIN,
    "flowhook.v1.RunnerService": frozenset({TokenScope.RUN}),
    "flowhook.v1.ClusterService": _ADMIN,
    "flowhook.v1.RejectionService": _ADMIN,
    "flowhook.v1.AuditService": _READ,
    "flowhook.v1.ShardService": _ANY,
    "grpc.health.v1.Health": _ANY,
    "grpc.reflection.v1alpha.ServerReflection": _ANY,
}
_METHODS: Final[Mapping[str, frozenset[TokenScope]]] = {
    "/flowhook.v1.FlowService/GetFlow": _READ | {TokenScope.VERIFY, TokenScope.RUN},
    "/flowhook.v1.FlowService/FindFlows": _READ | {TokenScope.VERIFY},
    "/flowhook.v1.FlowService/ListFlows": _READ,
    "/flowhook.v1.FlowService/ListRevisions": _READ,
    "/flowhook.v1.FlowService/GetFlowStatistics": _READ,
    "/flowhook.v1.FlowService/ListFlowStatistics": _READ,
    "/flowhook.v1.FlowService/WatchFlows": _READ | {TokenScope.VERIFY, TokenScope.RUN},
    "/flowhook.v1.SecretService/ListSecrets": _READ,
    "/flowhook.v1.SecretService/ResolveSecrets": frozenset({TokenScope.VERIFY, TokenScope.RUN}),
    "/flowhook.v1.ExecutionService/GetExecution": _READ,
    "/flowhook.v1.ExecutionService/ListExecutions": _READ,
    "/flowhook.v1.ExecutionService/CountExecutions": _READ,
    "/flowhook.v1.ExecutionService/ScanEvents": _READ,
    "/flowhook.v1.ExecutionService/PreviewReplay": _READ,
    "/flowhook.v1.ExecutionService/ReadBody": _READ,
    "/flowhook.v1.ExecutionService/WatchExecutions": _READ,
    "/flowhook.v1.JobService/GetJob": _READ,
    "/flowhook.v1.JobService/ListJobItems": _READ,
    "/flowhook.v1.JobService/ListJobs": _READ,
    "/flowhook.v1.JobService/PreviewJob": _READ,
    "/flowhook.v1.ClusterService/GetCluster": _READ,
    "/flowhook.v1.ClusterService/ReportProcess": _READ | {TokenScope.VERIFY, TokenScope.RUN},
    "/flowhook.v1.ShardService/GetShards": _READ,
    "/flowhook.v1.ShardService/ReportReachability": frozenset({TokenScope.ADMIN, TokenScope.VERIFY, TokenScope.RUN}),
    "/flowhook.v1.ShardService/HandOver": _ADMIN,
    "/flowhook.v1.RejectionService/GetRejection": _READ,
    "/flowhook.v1.RejectionService/ListRejections": _READ,
    "/flowhook.v1.RejectionService/CountRejections": _READ,
    "/flowhook.v1.RejectionService/AttachVerifier": frozenset({TokenScope.VERIFY}),
    "/flowhook.v1.RejectionService/ReportRejections": frozenset({TokenScope.VERIFY}),
}

# methods that callers without a token may call; whatever they send, an empty request is answered
_OPEN: Final = frozenset(
    {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/flowhook.v1.ShardService/Identify"}
)
# scopes of runners and edges: limits reserve a part for tokens that have one of them
_ESSENTIAL: Final = frozenset({TokenScope.RUN, TokenScope.VERIFY})
# scopes of the current call's token
caller_scopes: ContextVar[frozenset[TokenScope]] = ContextVar("caller_scopes", default=frozenset())
caller_name: ContextVar[str] = ContextVar("caller_name", default="")  # name of the current call's token
# the only flows to which the current call may send events; None: any flow
caller_flows: ContextVar[frozenset[str] | None] = ContextVar("caller_flows", default=None)
# methods that a token restricted to some flows may call, besides those for any token: they check the flow
_OF_FLOWS: Final = frozenset({"/flowhook.v1.IngestService/IngestEvents", "/flowhook.v1.IngestService/InvokeFlow"})


def check_flow_permitted(flow_id: str) -> None:
    """Check that the caller's token may send events to a flow.

    Raises:
        PermissionDeniedError: it may not (`FLOW_NOT_PERMITTED`).
    """
    flows = caller_flows.get()
    if flows is not None and flow_id not in flows:
        raise PermissionDeniedError("the token does not permit events of this flow", reason="FLOW_NOT_PERMITTED")


def required_scopes(method: str) -> frozenset[TokenScope]:
    """Return the scopes of which `method` (`/package.Service/Method`) requires one; empty: no caller may call it."""
    special = _METHODS.get(method)
    return _SERVICES.get(method[1:].partition("/")[0], frozenset()) if special is None else special


@attrs.define(eq=False, repr=False)
class Authorizer(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # not generic at run time
    """Refuses calls without a token (UNAUTHENTICATED), without the scope (PERMISSION_DENIED), or beyond the limits."""

    _tokens: TokenVerifier
    _limits: CallLimits

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Pass a call on to its handler, or answer it with a refusal."""
        # unlike what the stubs say, there is no handler for an unknown method
        handler: grpc.RpcMethodHandler[Any, Any] | None = await continuation(handler_call_details)
        header = _authorization(handler_call_details)
        current_principal.set(ANONYMOUS)
        try:
            if not header and handler is not None and handler_call_details.method in _OPEN:
                caller_scopes.set(frozenset())
                return _unread(self._limits.admit(handler))
            grant = self._authenticate(header)
            method = handler_call_details.method
            if handler is not None and not grant.scopes & required_scopes(method):
                raise PermissionDeniedError(f"the token lacks the scope required by {method}", reason="SCOPE_MISSING")
            if grant.flows is not None and method not in _OF_FLOWS and required_scopes(method) is not _ANY:
                raise PermissionDeniedError(
                    "the token is restricted to some flows: it permits IngestService only", reason="SCOPE_MISSING"
                )
            caller_name.set(grant.name)
            caller_scopes.set(grant.scopes)
            caller_flows.set(grant.flows)
            current_principal.set(Principal("token", grant.name, essential=bool(grant.scopes & _ESSENTIAL)))
            return None if handler is None else self._limits.admit(handler)
        except FlowhookError as error:
            return refusal(error)

    def _authenticate(self, header: str) -> TokenGrant:
        scheme, _, token = header.partition(" ")
        grant = self._tokens.find(token.strip()) if scheme.lower() == "bearer" and token else None
        if grant is None:
            cause = "the token is unknown, revoked or expired" if token else "the call has no bearer token"
            raise UnauthenticatedError(
                f"{cause}: set FLOWHOOK_TOKEN, or FLOWHOOK_DATA_DIR to the router's data directory"
            )
        return grant


def _authorization(details: grpc.HandlerCallDetails) -> str:
    header = next((value for key, value in details.invocation_metadata or () if key == "authorization"), "")
    return header if isinstance(header, str) else ""


def _unread(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that answers as `handler` does to an empty request, without reading the actual request."""
    behavior = handler.unary_stream if handler.response_streaming else handler.unary_unary
    empty = handler.request_deserializer(b"")  # type: ignore[misc] # the stubs declare it as a method

    async def answer(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await behavior(empty, context)  # type: ignore[misc,arg-type] # it is one of the two

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)


def refusal(error: FlowhookError) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that refuses a call with an error, without reading its messages."""

    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await status.abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
