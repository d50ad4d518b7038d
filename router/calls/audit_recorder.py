"""Records in the audit log the calls that change something on behalf of an operator.

A call is recorded when it was performed, before it is answered: anyone who has the answer finds the entry. If the entry
can't be stored, the call is answered nevertheless, because its effect has taken place, and the loss is logged.
A caller that cancels its call, or whose deadline passes, stops neither the call nor its entry: otherwise it could
change something without an entry, or leave it half-done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import attrs
import grpc
import grpc.aio
from google.protobuf.message import Message
from typing_extensions import override

from flowhook.errors import FlowhookError
from flowhook.model.audit import CLIENT_ADDRESS_KEY, REASON_KEY, AuditEntry
from flowhook.process import logs
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.v1 import flow_service_pb2, job_service_pb2, shard_service_pb2
from flowhook.wire import status
from router.calls import error_mapping
from router.calls.authorization import caller
from router.calls.interception import ContextProxy, Handler, Interceptor, peer_host, with_behavior
from router.storage.audit import AuditLog

MAX_TEXT: Final = 500  # characters of a target and of a reason that are stored
MAX_ADDRESS: Final = 100  # characters of an address that are stored
_PREFIX: Final = "/flowhook.v1."

log = logs.get_logger(__name__)


def _field(name: str) -> Callable[[Any, Any], str]:
    return lambda request, _response: str(getattr(request, name))


def _applied(request: flow_service_pb2.ApplyFlowsRequest, response: flow_service_pb2.ApplyFlowsResponse | None) -> str:
    if request.dry_run:
        return ""
    if response is None:
        return f"{len(request.documents)} documents"
    unchanged = flow_service_pb2.AppliedFlow.CHANGE_UNCHANGED
    return ", ".join(f"{each.flow.id} {each.flow.revision}" for each in response.flows if each.change != unchanged)


def _replayed(request: pb.ReplayExecutionRequest, response: pb.ReplayExecutionResponse | None) -> str:
    """Return the execution, the one that replays it, and in what that one differs from it."""
    new = "" if response is None else f"as {response.execution.id}"
    return _joined(request.execution_id, new, _differences(request))


def _created(request: job_service_pb2.CreateJobRequest, response: job_service_pb2.CreateJobResponse | None) -> str:
    """Return the action of a job, the job itself if it was created, and in what its replays differ from executions."""
    known = job_service_pb2.JobSpec.Action.DESCRIPTOR.values_by_number.get(request.spec.action)
    action = str(request.spec.action) if known is None else known.name.removeprefix("ACTION_").lower()
    return _joined(action, "" if response is None else response.job.id, _differences(request.spec.replay))


def _deleted(request: pb.DeleteExecutionRequest, response: pb.DeleteExecutionResponse | None) -> str:
    """Return the executions that were deleted, and whether they were erased."""
    ids = [request.execution_id] if response is None else response.execution_ids
    return _joined("erase" if request.erase else "", *ids)


def _differences(request: pb.ReplayExecutionRequest) -> str:
    """Return in what a replay differs from the execution, without the bytes that it was given."""
    words = []
    if request.HasField("output"):
        words.append(f"with an output given to {request.task}")
    elif request.task:
        words.append(f"from {request.task}")
    elif request.start == pb.ReplayExecutionRequest.START_FAILED_TASK:
        words.append("from the failed task")
    elif request.start == pb.ReplayExecutionRequest.START_AUTO and not request.HasField("input"):
        words.append("from the failed task, if one did")
    if request.HasField("input"):
        words.append("with edited input")
    if request.revision == pb.ReplayExecutionRequest.REVISION_LATEST:
        words.append("on the latest revision")
    return " ".join(words)


def _handed_over(
    request: shard_service_pb2.HandOverRequest, response: shard_service_pb2.HandOverResponse | None
) -> str:
    return (request.router if response is None else response.router) or "any standby"


def _joined(*words: str) -> str:
    return " ".join(filter(None, words))


# Methods that are recorded, with what returns the target from request and response (None: it was refused). A call
# without a target is not recorded: it changes nothing.
AUDITED: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "FlowService/ApplyFlows": _applied,
    "FlowService/PauseFlow": _field("flow_id"),
    "FlowService/ResumeFlow": _field("flow_id"),
    "FlowService/DeleteFlow": _field("flow_id"),
    "FlowService/SignWebhook": _field("flow_id"),
    "SecretService/SetSecret": _field("name"),
    "SecretService/DeleteSecret": _field("name"),
    "ExecutionService/ReplayExecution": _replayed,
    "ExecutionService/CancelExecution": _field("execution_id"),
    "ExecutionService/SuspendExecution": _field("execution_id"),
    "ExecutionService/ResumeExecution": _field("execution_id"),
    "ExecutionService/RetryExecutionNow": _field("execution_id"),
    "ExecutionService/ResolveExecution": _field("execution_id"),
    "ExecutionService/DeleteExecution": _deleted,
    "JobService/CreateJob": _created,
    "JobService/PauseJob": _field("job_id"),
    "JobService/ResumeJob": _field("job_id"),
    "JobService/AbortJob": _field("job_id"),
    "RejectionService/AcceptRejection": _field("rejection_id"),
    "IncidentService/ProbeDestination": _field("incident_id"),
    "IncidentService/FailWaitingCalls": _field("incident_id"),
    "ClusterService/DismissProcess": _field("name"),
    "ShardService/HandOver": _handed_over,
}


@attrs.define(eq=False, repr=False)
class AuditRecorder(Interceptor):
    """Records the calls of the methods in `AUDITED`. It stands behind the `Authorizer`."""

    _audit: AuditLog
    _now_ms: Callable[[], int] = attrs.field(kw_only=True)
    _calls: set[asyncio.Task[Any]] = attrs.field(init=False, factory=set)

    @override
    def wrap(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        action = details.method.removeprefix(_PREFIX)
        if action not in AUDITED:
            return handler
        return with_behavior(handler, self._recorded(action, handler.unary_unary, details))

    def _recorded(
        self, action: str, perform: Any, details: grpc.HandlerCallDetails
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def recorded(request: Message, context: error_mapping.Context, address: str) -> Any:
            async def add(response: Message | None, error: str = "") -> None:
                target, reason = AUDITED[action](request, response), _metadata(details, REASON_KEY)
                if target:
                    target, reason, actor = target[:MAX_TEXT], reason[:MAX_TEXT], caller.get().name
                    await self._add(
                        AuditEntry(0, self._now_ms(), actor, action, target, reason, error, address=address)
                    )

            response = await perform(request, _ObservedContext(context, partial(add, None)))
            await add(response)
            return response

        async def uninterrupted(request: Message, context: error_mapping.Context) -> Any:
            # asked at once: grpc ends the process if it is asked for the peer of a call that has ended meanwhile
            address = _address(details, context.peer())
            call = asyncio.create_task(recorded(request, context, address), name=action)
            self._calls.add(call)
            call.add_done_callback(self._ended)
            return await asyncio.shield(call)

        return uninterrupted

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # of a call that nobody waits for any more: it can't be answered

    async def _add(self, entry: AuditEntry) -> None:
        try:
            await self._audit.add(entry)
        except FlowhookError:
            log.exception("audit entry not stored", actor=entry.actor, action=entry.action, target=entry.target)


@attrs.define(eq=False, repr=False)
class _ObservedContext(ContextProxy):
    """Calls `refused` with the reason of a refusal before `abort` answers the caller."""

    _refused: Callable[[str], Awaitable[None]]

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        await self._refused(status.reason_of(trailing_metadata) or code.name)
        await self._context.abort(code, details, trailing_metadata)


def _metadata(details: grpc.HandlerCallDetails, name: str) -> str:
    found = next((value for key, value in details.invocation_metadata or () if key == name), b"")
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""


def _address(details: grpc.HandlerCallDetails, peer: str) -> str:
    """Return where a call came from: what its caller reports, if it is an address, and the caller's own address.

    Anyone who has a token can report any address: so that of the caller stands there, too.
    """
    own = peer_host(peer)
    try:
        reported = str(ip_address(_metadata(details, CLIENT_ADDRESS_KEY)))
    except ValueError:
        return own[:MAX_ADDRESS]
    return f"{reported} via {own}"[:MAX_ADDRESS]
