"""`/audit`: who changed what, when and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from admin.console.page import FilterForm, ListPage
from operations.table import LIST_AUDIT

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
