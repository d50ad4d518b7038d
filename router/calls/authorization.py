"""Authorises gRPC calls: each call carries a bearer token, and its method requires one of the token's scopes.

The messages of refused calls are not read. gRPC reads the message of a unary call, up to 32 MiB, before its handler
runs. So a refusal is a streaming handler that reads nothing, and only the bytes that flow control admits in advance are
received. The same applies to health checks without a token, which are allowed because kubelets have none. Reflection
accepts any valid token. Each message of a stream of requests is authorised again, so a revoked token ends the stream.

Source: RFC 6750, section 2.1 (`authorization: Bearer TOKEN`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import attrs
import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor

from flowhook.errors import FlowhookError, InternalError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from flowhook.security.tokens import TokenGrant, TokenScope, TokenVerifier
from flowhook.sharing import Principal, current_principal
from flowhook.wire import status
from router.calls.call_limits import ANONYMOUS, CallLimits
from router.calls.interception import behavior_of, with_behavior

_ADMIN: Final = frozenset({TokenScope.ADMIN})
_READ: Final = frozenset({TokenScope.ADMIN, TokenScope.VIEW})
_ANY: Final = frozenset(TokenScope)
_INGEST: Final = frozenset({TokenScope.INGEST})
_VERIFY: Final = frozenset({TokenScope.VERIFY})
_RUN: Final = frozenset({TokenScope.RUN})

_SCOPES: Final[Mapping[str, Mapping[str, frozenset[TokenScope]]]] = {
    "IngestService": {"IngestEvents StreamEvents InvokeFlow UploadBody GetReply": _INGEST},
    "FlowService": {
        "ApplyFlows PauseFlow ResumeFlow DeleteFlow SignWebhook": _ADMIN,
        "ListFlows ListRevisions GetFlowStatistics ListFlowStatistics GetOverview": _READ,
        "FindFlows": _READ | _VERIFY,
        "GetFlow WatchFlows": _READ | _VERIFY | _RUN,
    },
    "SecretService": {"SetSecret DeleteSecret": _ADMIN, "ListSecrets": _READ, "ResolveSecrets": _VERIFY | _RUN},
    "ExecutionService": {
        "ReplayExecution ResolveExecution CancelExecution DeleteExecution": _ADMIN,
        "SuspendExecution ResumeExecution RetryExecutionNow": _ADMIN,
        "GetExecution ListExecutions CountExecutions ScanEvents WatchExecutions PreviewReplay ReadBody": _READ,
    },
    "JobService": {
        "CreateJob PauseJob ResumeJob AbortJob": _ADMIN,
        "PreviewJob GetJob ListJobs ListJobItems": _READ,
    },
    "RunnerService": {"Attach ReportExit RenewLeases EmitEvent StartExecution ReadAttachment": _RUN},
    "ClusterService": {
        "DismissProcess": _ADMIN,
        "GetCluster": _READ,
        "ReportProcess": _READ | _VERIFY | _RUN,
    },
    "RejectionService": {
        "AcceptRejection": _ADMIN,
        "GetRejection ListRejections ListRequests CountRejections": _READ,
        "AttachVerifier ReportRejections": _VERIFY,
    },
    "IncidentService": {
        "ProbeDestination FailWaitingCalls": _ADMIN,
        "ListIncidents GetIncident": _READ,
    },
    "AuditService": {"ListAuditEntries": _READ},
    "ShardService": {
        "HandOver": _ADMIN,
        "GetShards": _READ,
        "ReportReachability": _ADMIN | _VERIFY | _RUN,
        "WatchShards Identify": _ANY,
    },
}
_METHODS: Final = {
    f"/flowhook.v1.{service}/{name}": scopes
    for service, rows in _SCOPES.items()
    for names, scopes in rows.items()
    for name in names.split()
}
# services that reveal nothing about flows: each of their methods accepts any valid token
_OTHER_SERVICES: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")

# methods that callers without a token may call; whatever they send, an empty request is answered
_OPEN: Final = frozenset(
    {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/flowhook.v1.ShardService/Identify"}
)
# scopes of runners and edges: limits reserve a part for tokens that have one of them
_ESSENTIAL: Final = frozenset({TokenScope.RUN, TokenScope.VERIFY})
NOBODY: Final = TokenGrant("", frozenset(), None, 0.0, "")
caller: ContextVar[TokenGrant] = ContextVar("caller", default=NOBODY)  # what the current call's token permits
# methods that a token restricted to some flows may call, besides those for any token: they check the flow
_OF_FLOWS: Final = frozenset(
    f"/flowhook.v1.IngestService/{name}" for name in ("IngestEvents", "StreamEvents", "InvokeFlow")
)


def check_flow_permitted(flow_id: str) -> None:
    """Refuse a caller whose token does not permit events of a flow."""
    flows = caller.get().flows
    if flows is not None and flow_id not in flows:
        raise PermissionDeniedError("the token does not permit events of this flow", reason="FLOW_NOT_PERMITTED")


def required_scopes(method: str) -> frozenset[TokenScope]:
    """Return the scopes of which `method` (`/package.Service/Method`) requires one; empty: no caller may call it."""
    return _METHODS.get(method, _ANY if method.startswith(_OTHER_SERVICES) else frozenset())


def check_scopes_listed(services: Iterable[ServiceDescriptor]) -> None:
    """Check that each method of some services has a row in the table of scopes.

    Raises:
        InternalError: some have none, so that no caller may call them (`SCOPES_UNLISTED`).
    """
    paths = (f"/{service.full_name}/{method.name}" for service in services for method in service.methods)
    if missing := [path for path in paths if not required_scopes(path)]:
        raise InternalError(f"no scopes are listed for {', '.join(missing)}", reason="SCOPES_UNLISTED")


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
                caller.set(NOBODY)
                return _unread(self._limits.admit(handler))
            grant = self._authenticate(header)
            method = handler_call_details.method
            if handler is not None and not grant.scopes & required_scopes(method):
                raise PermissionDeniedError(f"the token lacks the scope required by {method}", reason="SCOPE_MISSING")
            if grant.flows is not None and method not in _OF_FLOWS and required_scopes(method) is not _ANY:
                raise PermissionDeniedError(
                    "the token is restricted to some flows: it permits IngestService only", reason="SCOPE_MISSING"
                )
            caller.set(grant)
            current_principal.set(Principal("token", grant.name, essential=bool(grant.scopes & _ESSENTIAL)))
            if handler is None:
                return None
            return self._limits.admit(self._rechecked(handler, header, grant) if handler.request_streaming else handler)
        except FlowhookError as error:
            if isinstance(error, PermissionDeniedError):
                self._tokens.refusals["scope"] += 1
            return refusal(error)

    def _rechecked(
        self, handler: grpc.RpcMethodHandler[Any, Any], header: str, grant: TokenGrant
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler of a stream of requests that ends it when its token is no longer what it was."""
        behavior = behavior_of(handler)

        async def checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for request in requests:
                now = self._authenticate(header)
                if (now.scopes, now.flows) != (grant.scopes, grant.flows):
                    raise UnavailableError("the token permits something else now: call again", reason="TOKEN_CHANGED")
                yield request

        async def call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await behavior(checked(requests), context)

        return with_behavior(handler, call)

    def _authenticate(self, header: str) -> TokenGrant:
        scheme, _, token = header.partition(" ")
        grant = self._tokens.find(token.strip()) if scheme.lower() == "bearer" and token else None
        if grant is None:
            self._tokens.refusals["unknown" if token else "missing"] += 1
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
    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await status.abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
