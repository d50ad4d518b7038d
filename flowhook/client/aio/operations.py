"""Client methods for what operators watch: the cluster, incidents, refused requests, and the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from flowhook.client.aio.transport import AsyncTransport, iterate
from flowhook.client.values import Page
from flowhook.model import cluster
from flowhook.model.audit import AuditEntry
from flowhook.model.cluster import ClusterLoad, ClusterShards, HandOver, ProcessInfo
from flowhook.model.incidents import Incident
from flowhook.model.rejections import (
    AcceptedRejection,
    ReceivedRequest,
    RejectedRequest,
    RejectionCount,
    RequestOutcome,
)
from flowhook.v1 import audit_service_pb2, cluster_service_pb2, incident_service_pb2, shard_service_pb2
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.v1.audit_service_pb2_grpc import AuditServiceStub
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub
from flowhook.v1.incident_service_pb2_grpc import IncidentServiceStub
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire.mapping import enum_to_proto, from_proto


class Cluster:
    """The processes and the shards of the cluster. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = ClusterServiceStub(transport.channel)
        self._shards = ShardServiceStub(transport.channel)

    async def processes(self, *, metrics: bool = True) -> Sequence[ProcessInfo]:
        """Return the router and all processes, by name, with or without metrics.

        Those that ended in order are forgotten after a minute, others when they are dismissed.
        """
        request = cluster_service_pb2.GetClusterRequest(without_metrics=not metrics)
        response = await self._transport.call(self._stub.GetCluster, request)
        return [from_proto(each, ProcessInfo) for each in response.processes]

    async def dismiss(self, name: str) -> None:
        """Forget a process that has ended and will not come back. Scope `admin`.

        Raises:
            NotFoundError: there is no process of this name (`PROCESS_NOT_FOUND`).
            ConflictError: it has reported just now (`PROCESS_ALIVE`).
        """
        await self._transport.call(self._stub.DismissProcess, cluster_service_pb2.DismissProcessRequest(name=name))

    async def load(self) -> ClusterLoad:
        """Return the processes without metrics, the executions that have not ended, and what storage takes."""
        request = cluster_service_pb2.GetClusterRequest(without_metrics=True, with_storage=True)
        return await self._transport.value(self._stub.GetCluster, request, ClusterLoad)

    async def shards(self) -> ClusterShards:
        """Return the shards, their owners and copies, and the servers of the replicated log.

        Any router answers, whether it owns a shard or not, by what it knows.
        """
        response = await self._transport.call(self._shards.GetShards, shard_service_pb2.GetShardsRequest())
        servers = tuple(from_proto(each, cluster.LogServerInfo) for each in response.servers)
        return ClusterShards(tuple(map(_shard, response.shards)), servers)

    async def hand_over(self, router: str = "") -> HandOver:
        """Have the owner of the shard hand it over to `router`; that begins soon after this returns. Scope `admin`.

        Without a name, to the standby that most edges and runners reach. Any router takes the request, and passes it on
        to the owner. Watch `shards`: the next owner has a higher epoch.

        Raises:
            NotFoundError: there is no such router (`ROUTER_UNKNOWN`).
            ConflictError: it owns the shard (`ALREADY_OWNER`), or can't take over now (`STANDBY_NOT_READY`).
            UnavailableError: no router serves now (`NO_OWNER`).
        """
        request = shard_service_pb2.HandOverRequest(router=router)
        response = await self._transport.call(self._shards.HandOver, request, repeatable=False)
        return HandOver(response.owner.router, response.owner.epoch, response.router)


def _shard(shard: shard_service_pb2.Shard) -> cluster.ShardInfo:
    return cluster.ShardInfo(
        number=shard.shard,
        epoch=shard.owner.epoch,
        owner=shard.owner.router,
        address=shard.owner.address,
        serving=shard.owner.serving,
        position=shard.position,
        first_position=shard.first_position,
        log_bytes=shard.log_bytes,
        max_log_bytes=shard.max_log_bytes,
        copies=tuple(from_proto(each, cluster.ShardCopyInfo) for each in shard.copies),
        snapshots=tuple(from_proto(each, cluster.SnapshotInfo) for each in shard.snapshots),
    )


class Incidents:
    """Destinations of calls that are or were down. Scope `admin` or `view`; `probe` and `let_fail` need `admin`.

    Methods for one incident raise a `NotFoundError` if it is not, or no longer, in the log.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = IncidentServiceStub(transport.channel)

    def list(self, *, open_only: bool = False, limit: int | None = None) -> AsyncIterator[Incident]:
        """Yield the open incidents, then those that are over, newest first, without their history."""
        return iterate(partial(self.page, open_only=open_only), limit)

    async def page(self, *, open_only: bool = False, page_size: int = 100, page_token: str = "") -> Page[Incident]:
        """Return a page of what `list` yields (see `Page`); all open ones are on the first page."""
        request = incident_service_pb2.ListIncidentsRequest(
            open_only=open_only, page_size=page_size, page_token=page_token
        )
        return await self._transport.page(self._stub.ListIncidents, request, Incident)

    async def get(self, incident_id: str) -> Incident:
        """Return an incident."""
        request = incident_service_pb2.GetIncidentRequest(incident_id=incident_id)
        return await self._transport.item(self._stub.GetIncident, request, Incident)

    async def probe(self, incident_id: str) -> Incident:
        """Let a waiting execution call the destination now; ConflictError: the incident is over (`INCIDENT_CLOSED`)."""
        request = incident_service_pb2.ProbeDestinationRequest(incident_id=incident_id)
        return await self._transport.item(self._stub.ProbeDestination, request, Incident)

    async def let_fail(self, incident_id: str) -> int:
        """Let the calls that wait fail with the last cause, and return of how many executions; raises as `probe`."""
        request = incident_service_pb2.FailWaitingCallsRequest(incident_id=incident_id)
        return (await self._transport.call(self._stub.FailWaitingCalls, request)).executions


class Rejections:
    """Requests that edges refused: a bounded log. Scope `admin` or `view`; `accept` needs `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = RejectionServiceStub(transport.channel)

    def list(self, *, flow_id: str = "", reason: str = "", limit: int | None = None) -> AsyncIterator[RejectedRequest]:
        """Yield refused requests, newest first, at most `limit` of them; their headers and bodies are left out."""
        return iterate(partial(self.page, flow_id=flow_id, reason=reason), limit)

    async def page(
        self, *, flow_id: str = "", reason: str = "", page_size: int = 100, page_token: str = ""
    ) -> Page[RejectedRequest]:
        """Return a page of what `list` yields (see `Page`): requests to a flow that were refused for a reason.

        An empty `flow_id` matches any flow, an empty `reason` any reason, for example `SIGNATURE_MISMATCH`.
        """
        request = pb.ListRejectionsRequest(flow_id=flow_id, reason=reason, page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ListRejections, request, RejectedRequest)

    def requests(
        self, *, flow_id: str = "", outcome: RequestOutcome | None = None, limit: int | None = None
    ) -> AsyncIterator[ReceivedRequest]:
        """Yield all requests that arrived, newest first, at most `limit` of them: accepted ones, too."""
        return iterate(partial(self.requests_page, flow_id=flow_id, outcome=outcome), limit)

    async def requests_page(
        self, *, flow_id: str = "", outcome: RequestOutcome | None = None, page_size: int = 100, page_token: str = ""
    ) -> Page[ReceivedRequest]:
        """Return a page of what `requests` yields (see `Page`): requests to a flow with an outcome.

        An empty `flow_id` matches any flow, None any outcome. A page may be short although there is a next one.
        """
        value = enum_to_proto(outcome, pb.RequestOutcome)
        request = pb.ListRequestsRequest(flow_id=flow_id, outcome=value, page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ListRequests, request, ReceivedRequest)

    async def get(self, rejection_id: str) -> RejectedRequest:
        """Return a refused request; raises NotFoundError: it is not, or no longer, in the log."""
        request = pb.GetRejectionRequest(rejection_id=rejection_id)
        return await self._transport.item(self._stub.GetRejection, request, RejectedRequest)

    async def count(self, *, flow_id: str = "") -> Sequence[RejectionCount]:
        """Count the refused requests in the log by flow and reason, the greatest first, at most 1000 counts."""
        request = pb.CountRejectionsRequest(flow_id=flow_id)
        response = await self._transport.call(self._stub.CountRejections, request)
        return [from_proto(each, RejectionCount) for each in response.counts]

    async def accept(self, rejection_id: str) -> AcceptedRejection:
        """Verify a refused request again, under the flow's present revision and secrets, and accept it as an event.

        A repeated call returns the same event.

        Raises:
            NotFoundError: the request is not in the log (any more), or its flow or callback was deleted.
            ConflictError: it can't be accepted (`REJECTION_NOT_ACCEPTABLE`), or is still refused (`STILL_REFUSED`): the
                message says why.
            UnavailableError: no edge is there to verify it (`NO_VERIFIER`, `VERIFICATION_TIMEOUT`).
        """
        request = pb.AcceptRejectionRequest(rejection_id=rejection_id)
        return await self._transport.value(self._stub.AcceptRejection, request, AcceptedRejection)


class Audit:
    """The audit log: calls that changed something. Scope `admin` or `view`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = AuditServiceStub(transport.channel)

    def list(
        self, *, actor: str = "", action: str = "", target: str = "", limit: int | None = None
    ) -> AsyncIterator[AuditEntry]:
        """Yield entries that meet all conditions, newest first, at most `limit` of them; see `page`."""
        return iterate(partial(self.page, actor=actor, action=action, target=target), limit)

    async def page(
        self, *, actor: str = "", action: str = "", target: str = "", page_size: int = 100, page_token: str = ""
    ) -> Page[AuditEntry]:
        """Return a page of what `list` yields (see `Page`).

        `actor` is the name of a token, `action` a method, for example `FlowService/PauseFlow`, and `target` a part of
        the target; an empty one matches any.
        """
        request = audit_service_pb2.ListAuditEntriesRequest(
            actor=actor, action=action, target=target, page_size=page_size, page_token=page_token
        )
        return await self._transport.page(self._stub.ListAuditEntries, request, AuditEntry)
