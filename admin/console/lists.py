"""Pages that show what an operation lists or describes: `/audit`, `/cluster`, `/incidents`, `/jobs`, `/requests`.

And `/rejections`, `/rejections/ID`, with the acceptance of a refused request.
"""

from __future__ import annotations

import http
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from admin.console.body_view import body_view
from admin.console.live import LiveStream
from admin.console.page import ConsolePage, FilterForm, ListPage, read_live
from flowhook.errors import ConflictError
from flowhook.model.rejections import RequestOutcome
from operations.cluster import ClusterState
from operations.encoding import header_texts
from operations.health import SILENT_SECONDS
from operations.table import (
    ACCEPT_REJECTION,
    GET_CLUSTER,
    GET_INCIDENT,
    GET_REJECTION,
    LIST_AUDIT,
    LIST_INCIDENTS,
    LIST_JOBS,
    LIST_REJECTIONS,
    LIST_REQUESTS,
)

# what the methods that are recorded do, in words
ACTIONS: Final[Mapping[str, str]] = {
    "FlowService/ApplyFlows": "apply a flow",
    "FlowService/PauseFlow": "pause a flow",
    "FlowService/ResumeFlow": "resume a flow",
    "FlowService/DeleteFlow": "delete a flow",
    "FlowService/SignWebhook": "sign a test event",
    "SecretService/SetSecret": "set a secret",
    "SecretService/DeleteSecret": "delete a secret",
    "ExecutionService/ReplayExecution": "replay an execution",
    "ExecutionService/CancelExecution": "cancel an execution",
    "ExecutionService/SuspendExecution": "suspend an execution",
    "ExecutionService/ResumeExecution": "resume an execution",
    "ExecutionService/RetryExecutionNow": "retry an execution now",
    "ExecutionService/ResolveExecution": "resolve an execution",
    "ExecutionService/DeleteExecution": "delete or erase an execution",
    "JobService/CreateJob": "create a job",
    "JobService/PauseJob": "pause a job",
    "JobService/ResumeJob": "resume a job",
    "JobService/AbortJob": "abort a job",
    "RejectionService/AcceptRejection": "accept a refused request",
    "IncidentService/ProbeDestination": "try a destination that is down",
    "IncidentService/FailWaitingCalls": "let calls fail that wait",
    "ClusterService/DismissProcess": "dismiss a process that is gone",
    "ShardService/HandOver": "hand over the shard",
}


class AuditLogPage(ListPage):
    """`/audit`: the entries of the audit log, newest first."""

    operation, template, values = LIST_AUDIT, "audit.html", MappingProxyType({"actions": ACTIONS})
    filter_form = FilterForm("audit_form.html", "Audit log", LIST_AUDIT, values=values)


class IncidentsPage(ListPage):
    """`/incidents`: destinations of calls that are down, then those that were."""

    operation, template = LIST_INCIDENTS, "incidents.html"


class IncidentDetailPage(ConsolePage):
    """`/incidents/ID`: one incident and its history."""

    async def show(self, *values: str) -> None:
        self.finish_page("incident.html", incident=await self.run(GET_INCIDENT, {"incident_id": values[0]}, {}))


class JobsPage(ListPage):
    """`/jobs`: jobs, newest first, with their progress."""

    operation, template = LIST_JOBS, "jobs.html"


class RequestsPage(ListPage):
    """`/requests`: all requests that arrived, newest first, and what became of them."""

    operation, template, values = LIST_REQUESTS, "requests.html", MappingProxyType({"outcomes": list(RequestOutcome)})
    filter_form = FilterForm("requests_form.html", "Requests", LIST_REQUESTS, values=values)


LIVE_SECONDS: Final = 2.0  # time between two looks at the cluster: its processes report as often


class ClusterPage(ConsolePage):
    """`/cluster`: backlog, storage, processes, shards, and the servers of the log; live."""

    async def show(self, *_values: str) -> None:
        query = self.query()
        live = read_live(query)
        self.finish_page("cluster.html", live=live, **_values_of(await self.run(GET_CLUSTER, {}, query)))


class ClusterStream(LiveStream):
    """`/stream/cluster`."""

    operation = GET_CLUSTER
    template = "cluster_state.html"
    interval = LIVE_SECONDS

    def values_of(self, _conditions: Any, result: ClusterState) -> dict[str, Any]:
        return _values_of(result)


def _values_of(cluster: ClusterState) -> dict[str, Any]:
    gone = [process for process in cluster.processes if process.last_seen_seconds > SILENT_SECONDS]
    return {"cluster": cluster, "owners": {shard.owner for shard in cluster.shards}, "gone": gone}


MAX_COUNTS: Final = 20  # counts that the list shows; the API has all of them


class RejectionsPage(ListPage):
    """`/rejections`: refused requests, newest first."""

    operation, template, values = LIST_REJECTIONS, "rejections.html", MappingProxyType({"max_counts": MAX_COUNTS})
    filter_form = FilterForm("rejections_form.html", "Rejections", LIST_REJECTIONS)


class RejectionDetailPage(ConsolePage):
    """`/rejections/ID`: a refused request."""

    async def show(self, *values: str) -> None:
        await self.show_rejection(values[0])

    async def show_rejection(self, rejection_id: str, problem: str = "") -> None:
        detail = await self.run(GET_REJECTION, {"rejection_id": rejection_id}, {})
        cause = detail.detail.removesuffix(f"; {detail.diagnosis}") if detail.diagnosis else detail.detail
        self.finish_page(
            "rejection.html",
            detail=detail,
            rejection=detail,
            cause="" if cause == detail.reason else cause,
            problem=problem,
            fields=header_texts(detail.headers),
            body=body_view(detail.body) if detail.body else None,
        )


class AcceptHandler(RejectionDetailPage):
    """Accepts a request; shows it again, with the reason, if it is still refused."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *values: str) -> None:
        fields = self.checked_form()
        try:
            await self.run(ACCEPT_REJECTION, {"rejection_id": values[0]}, fields)
        except ConflictError as error:
            self.set_status(http.HTTPStatus.CONFLICT)
            await self.show_rejection(values[0], error.message)
        else:
            self.see_other(f"/rejections/{quote(values[0], safe='')}")
