"""Pages that show what an operation lists, page by page: `/audit`, `/incidents`, `/jobs`, `/requests`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from admin.console.page import ConsolePage, FilterForm, ListPage
from flowhook.model.rejections import RequestOutcome
from operations.table import GET_INCIDENT, LIST_AUDIT, LIST_INCIDENTS, LIST_JOBS, LIST_REQUESTS

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
