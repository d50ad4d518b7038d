"""Requests and response conversions of all client methods; without I/O, shared by both clients.

A `RpcCall` is data: the service and its method, the request, the conversion of the response, and whether the call is
idempotent. The clients differ only in how they perform it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from flowhook import ids
from flowhook.client.bodies import Body, encode
from flowhook.errors import (
    FlowhookError,
    InternalError,
    InvalidError,
    UnavailableError,
)
from flowhook.model import (
    Change,
    Event,
    Execution,
    ExecutionDetail,
    Flow,
    RejectedRequest,
    Reply,
    SecretInfo,
    Status,
    WorkflowError,
)
from flowhook.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    flow_service_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    rejection_service_pb2,
    rejection_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from flowhook.wire import convert
from flowhook.wire.failures import failure_from_proto

T = TypeVar("T")

HeaderPairs = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
"""Names and values of header fields; pairs if a name occurs more than once."""

DEFAULT_TIMEOUT: Final = 15.0
"""Seconds that a call may take, retries included; the default of a client's `timeout`."""

RETRY_SECONDS: Final = 2.0
"""Time for which a repeatable call is retried while the router is unavailable: about as long as a restart takes."""

MAX_WAIT_SECONDS: Final = 300.0
"""Longest wait of one InvokeFlow call; `invoke` repeats the call until its own timeout."""

PAGE_SIZE: Final = 500


@dataclass(frozen=True, slots=True)
class RpcCall(Generic[T]):
    """One call of a gRPC method. `stub` is the generated stub class; `repeatable` says whether a retry is harmless."""

    stub: type
    method: str
    request: Any
    convert: Callable[[Any], T]
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class ResultPage(Generic[T]):
    """One page of a list; `next_token` is empty on the last page."""

    items: list[T]
    next_token: str


@dataclass(frozen=True, slots=True)
class AppliedFlow:
    """Result of applying one document, with warnings for its author, for example that a secret is not set."""

    flow: Flow
    change: Change
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """Change of an execution's status. `missed` counts the changes that were dropped before it for a slow watcher."""

    execution: Execution
    missed: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of the cluster. `last_seen`: seconds since its last report. `metrics`: Prometheus text format."""

    name: str
    role: str
    build: str
    pid: int
    host: str
    ready: bool
    detail: str
    metrics: bytes
    last_seen: float


class ReplyPendingError(UnavailableError):
    """The flow has not replied in time; its execution, `execution_id`, continues."""

    default_reason = "REPLY_PENDING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has not answered yet")
        self.execution_id = execution_id


class ExecutionFailedError(FlowhookError):
    """The execution faulted or was cancelled; `error` is the cause as a DSL error."""

    default_reason = "EXECUTION_FAILED"

    def __init__(self, execution_id: str, error: WorkflowError) -> None:
        super().__init__(f"execution {execution_id} failed: {error.title}: {error.detail}".rstrip(": "))
        self.execution_id = execution_id
        self.error = error


# --- ingest


def new_event(
    flow: str, body: Body, *, content_type: str, headers: HeaderPairs, dedupe_key: str, event_id: str | None
) -> Event:
    """Create an event for `flow`, received now.

    Raises:
        InvalidError: an argument has the wrong type (`ARGUMENT_INVALID`), or the body can't be encoded as JSON
            (`BODY_INVALID`).
    """
    texts = {"flow": flow, "content_type": content_type, "dedupe_key": dedupe_key, "event_id": event_id or ""}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise _argument(f"`{name}` is a text, not {type(value).__name__}")
    return Event(
        id=event_id or ids.mint(ids.slot_of(flow)),
        flow_id=flow,
        receive_time_ms=time.time_ns() // 1_000_000,
        principal=None,
        dedupe_key=dedupe_key,
        method="POST",
        path="",
        query="",
        content_type=content_type,
        headers=tuple(_headers(headers)),
        body=encode(body),
    )


def _headers(headers: HeaderPairs) -> Iterator[tuple[str, bytes]]:
    for pair in headers.items() if isinstance(headers, Mapping) else headers:
        match pair:
            case (str(name), str(value)):
                yield name.lower(), value.encode()
            case (str(name), bytes(value)):
                yield name.lower(), value
            case _:
                raise _argument("`headers` are pairs of a name and a value, text or bytes, or a mapping")


def _argument(what: str) -> InvalidError:
    return InvalidError(what, reason="ARGUMENT_INVALID")


def ingest(event: Event) -> RpcCall[str]:
    """Store one event and return the ID of its execution."""
    return RpcCall(
        ingest_service_pb2_grpc.IngestServiceStub,
        "IngestEvents",
        ingest_service_pb2.IngestEventsRequest(events=[convert.event_to_proto(event)]),
        _accepted_id,
    )


def _accepted_id(response: ingest_service_pb2.IngestEventsResponse) -> str:
    if len(response.results) != 1:
        raise InternalError("the router answered one event with another number of results")
    result = response.results[0]
    if result.WhichOneof("outcome") == "accepted":
        return result.accepted.execution_id
    raise failure_from_proto(result.rejected)


def invoke(event: Event, max_wait: float) -> RpcCall[Reply]:
    """Store one event and wait for the reply of its flow; for a known event, wait for its existing execution."""
    return RpcCall(
        ingest_service_pb2_grpc.IngestServiceStub,
        "InvokeFlow",
        ingest_service_pb2.InvokeFlowRequest(event=convert.event_to_proto(event), max_wait=convert.duration(max_wait)),
        _reply,
    )


def _reply(response: ingest_service_pb2.InvokeFlowResponse) -> Reply:
    match response.WhichOneof("outcome"):
        case "reply":
            return convert.reply_from_proto(response.reply)
        case "error":
            raise ExecutionFailedError(response.execution_id, convert.error_from_proto(response.error))
        case _:
            raise ReplyPendingError(response.execution_id)


# --- flows


def apply_flows(documents: Sequence[bytes], *, dry_run: bool) -> RpcCall[list[AppliedFlow]]:
    """Create or update flows, all or none."""

    def applied(response: flow_service_pb2.ApplyFlowsResponse) -> list[AppliedFlow]:
        return [
            AppliedFlow(
                convert.flow_from_proto(item.flow), convert.change_from_proto(item.change), tuple(item.warnings)
            )
            for item in response.flows
        ]

    request = flow_service_pb2.ApplyFlowsRequest(documents=documents, dry_run=dry_run)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "ApplyFlows", request, applied)


def get_flow(flow_id: str, revision: int) -> RpcCall[Flow]:
    """Read one flow."""
    request = flow_service_pb2.GetFlowRequest(flow_id=flow_id, revision=revision)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "GetFlow", request, _flow)


def list_flows(page_token: str) -> RpcCall[ResultPage[Flow]]:
    """Read one page of flows."""

    def page(response: flow_service_pb2.ListFlowsResponse) -> ResultPage[Flow]:
        return ResultPage([convert.flow_from_proto(flow) for flow in response.flows], response.next_page_token)

    request = flow_service_pb2.ListFlowsRequest(page_size=PAGE_SIZE, page_token=page_token)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "ListFlows", request, page)


def pause_flow(flow_id: str) -> RpcCall[Flow]:
    """Pause a flow: queue its events without running them."""
    request = flow_service_pb2.PauseFlowRequest(flow_id=flow_id)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "PauseFlow", request, _flow)


def resume_flow(flow_id: str) -> RpcCall[Flow]:
    """Resume a flow: run its events again."""
    request = flow_service_pb2.ResumeFlowRequest(flow_id=flow_id)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "ResumeFlow", request, _flow)


def delete_flow(flow_id: str) -> RpcCall[None]:
    """Delete a flow."""
    request = flow_service_pb2.DeleteFlowRequest(flow_id=flow_id)
    return RpcCall(flow_service_pb2_grpc.FlowServiceStub, "DeleteFlow", request, _nothing, repeatable=False)


def _flow(response: Any) -> Flow:
    return convert.flow_from_proto(response.flow)


def _nothing(_response: Any) -> None:
    return None


# --- secrets


def set_secret(name: str, value: bytes) -> RpcCall[SecretInfo]:
    """Create or replace a secret."""
    request = secret_service_pb2.SetSecretRequest(name=name, value=value)
    return RpcCall(
        secret_service_pb2_grpc.SecretServiceStub,
        "SetSecret",
        request,
        lambda response: convert.secret_from_proto(response.secret),
    )


def list_secrets() -> RpcCall[list[SecretInfo]]:
    """Read the names and times of all secrets."""
    return RpcCall(
        secret_service_pb2_grpc.SecretServiceStub,
        "ListSecrets",
        secret_service_pb2.ListSecretsRequest(),
        lambda response: [convert.secret_from_proto(secret) for secret in response.secrets],
    )


def delete_secret(name: str) -> RpcCall[None]:
    """Delete a secret."""
    request = secret_service_pb2.DeleteSecretRequest(name=name)
    return RpcCall(secret_service_pb2_grpc.SecretServiceStub, "DeleteSecret", request, _nothing, repeatable=False)


def resolve_secrets(names: Iterable[str], flow_id: str) -> RpcCall[dict[str, bytes]]:
    """Read the values of secrets."""
    request = secret_service_pb2.ResolveSecretsRequest(names=names, flow_id=flow_id)
    return RpcCall(
        secret_service_pb2_grpc.SecretServiceStub, "ResolveSecrets", request, lambda response: dict(response.values)
    )


# --- executions


def get_execution(execution_id: str) -> RpcCall[ExecutionDetail]:
    """Read one execution with everything that is stored of it."""
    request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "GetExecution", request, convert.detail_from_proto)


def read_body(execution_id: str) -> RpcCall[bytes]:
    """Read the body of the request that started an execution, as a stream of chunks."""

    def chunk(response: execution_service_pb2.ReadBodyResponse) -> bytes:
        return response.chunk

    request = execution_service_pb2.ReadBodyRequest(execution_id=execution_id)
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "ReadBody", request, chunk)


def list_executions(
    flow_id: str, statuses: Iterable[Status], page_size: int, page_token: str, *, unresolved: bool = False
) -> RpcCall[ResultPage[Execution]]:
    """Read one page of executions, newest first."""

    def page(response: execution_service_pb2.ListExecutionsResponse) -> ResultPage[Execution]:
        items = [convert.execution_from_proto(execution) for execution in response.executions]
        return ResultPage(items, response.next_page_token)

    request = execution_service_pb2.ListExecutionsRequest(
        flow_id=flow_id,
        statuses=[convert.status_to_proto(status) for status in statuses],
        page_size=page_size,
        page_token=page_token,
        unresolved=unresolved,
    )
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "ListExecutions", request, page)


def list_rejections(flow_id: str, page_size: int, page_token: str) -> RpcCall[ResultPage[RejectedRequest]]:
    """Read one page of refused requests, newest first."""

    def page(response: rejection_service_pb2.ListRejectionsResponse) -> ResultPage[RejectedRequest]:
        items = [convert.rejection_from_proto(each) for each in response.rejections]
        return ResultPage(items, response.next_page_token)

    request = rejection_service_pb2.ListRejectionsRequest(flow_id=flow_id, page_size=page_size, page_token=page_token)
    return RpcCall(rejection_service_pb2_grpc.RejectionServiceStub, "ListRejections", request, page)


def get_rejection(rejection_id: str) -> RpcCall[RejectedRequest]:
    """Read one refused request."""
    return RpcCall(
        rejection_service_pb2_grpc.RejectionServiceStub,
        "GetRejection",
        rejection_service_pb2.GetRejectionRequest(rejection_id=rejection_id),
        lambda response: convert.rejection_from_proto(response.rejection),
    )


def new_request_id() -> str:
    """Generate an idempotency key."""
    return uuid.uuid4().hex


def replay_execution(
    execution_id: str, *, latest: bool, from_failed: bool, request_id: str, unless_replayed: bool = False
) -> RpcCall[Execution]:
    """Start a new execution from the stored event of one that ended."""
    options = execution_service_pb2.ReplayExecutionRequest
    request = execution_service_pb2.ReplayExecutionRequest(
        execution_id=execution_id,
        revision=options.REVISION_LATEST if latest else options.REVISION_PINNED,
        start=options.START_FAILED_TASK if from_failed else options.START_BEGINNING,
        request_id=request_id,
        unless_replayed=unless_replayed,
    )
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "ReplayExecution", request, _execution)


def resolve_execution(execution_id: str, reason: str) -> RpcCall[Execution]:
    """Mark a failed execution as resolved."""
    request = execution_service_pb2.ResolveExecutionRequest(execution_id=execution_id, reason=reason)
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "ResolveExecution", request, _execution)


def cancel_execution(execution_id: str) -> RpcCall[Execution]:
    """Cancel an execution that has not ended."""
    request = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id)
    return RpcCall(
        execution_service_pb2_grpc.ExecutionServiceStub, "CancelExecution", request, _execution, repeatable=False
    )


def suspend_execution(execution_id: str) -> RpcCall[Execution]:
    """Suspend an execution."""
    request = execution_service_pb2.SuspendExecutionRequest(execution_id=execution_id)
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "SuspendExecution", request, _execution)


def resume_execution(execution_id: str) -> RpcCall[Execution]:
    """Resume a suspended execution."""
    request = execution_service_pb2.ResumeExecutionRequest(execution_id=execution_id)
    return RpcCall(
        execution_service_pb2_grpc.ExecutionServiceStub, "ResumeExecution", request, _execution, repeatable=False
    )


def watch_executions(flow_id: str) -> RpcCall[ExecutionChange | None]:
    """Watch status changes; the first message of the stream, None, signals that it is established."""

    def change(response: execution_service_pb2.WatchExecutionsResponse) -> ExecutionChange | None:
        if not response.HasField("execution"):
            return None
        return ExecutionChange(convert.execution_from_proto(response.execution), response.missed)

    request = execution_service_pb2.WatchExecutionsRequest(flow_id=flow_id)
    return RpcCall(execution_service_pb2_grpc.ExecutionServiceStub, "WatchExecutions", request, change)


def _execution(response: Any) -> Execution:
    return convert.execution_from_proto(response.execution)


# --- cluster


def get_cluster(*, metrics: bool) -> RpcCall[list[ProcessInfo]]:
    """Read the state of all processes, with or without their metrics."""

    def processes(response: cluster_service_pb2.GetClusterResponse) -> list[ProcessInfo]:
        return [
            ProcessInfo(
                name=process.name,
                role=process.role,
                build=process.build,
                pid=process.pid,
                host=process.host,
                ready=process.ready,
                detail=process.detail,
                metrics=process.metrics,
                last_seen=convert.seconds(process.last_seen),
            )
            for process in response.processes
        ]

    request = cluster_service_pb2.GetClusterRequest(without_metrics=not metrics)
    return RpcCall(cluster_service_pb2_grpc.ClusterServiceStub, "GetCluster", request, processes)
