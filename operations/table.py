"""The table of all operations: what `/api` offers, and what the console's forms do."""

from __future__ import annotations

from typing import Any, Final

from operations import (
    cluster,
    execution_list,
    executions,
    flows,
    jobs,
    logs,
    parts,
    secrets,
    test_events,
)
from operations.operation import Operation

GET_OVERVIEW: Final = Operation("GET", "/overview", flows.get_overview)
LIST_FLOWS: Final = Operation("GET", "/flows", flows.list_flows, items="flows")
GET_FLOW: Final = Operation("GET", "/flows/{flow_id}", flows.get_flow)
GET_FLOW_STATISTICS: Final = Operation("GET", "/flows/{flow_id}/statistics", flows.get_flow_statistics)
APPLY_FLOW: Final = Operation("POST", "/flows", flows.apply_flow)
CHECK_FLOW: Final = Operation("POST", "/check", flows.check_flow)
DELETE_FLOW: Final = Operation("POST", "/flows/{flow_id}/delete", flows.delete_flow)
GET_FLOW_SETUP: Final = Operation("GET", "/flows/{flow_id}/setup", flows.get_flow_setup)
GET_FLOW_PICTURE: Final = Operation("GET", "/flows/{flow_id}/picture", flows.get_flow_picture)
LIST_REVISIONS: Final = Operation("GET", "/flows/{flow_id}/revisions", flows.list_revisions, items="revisions")
DIFF_REVISIONS: Final = Operation("GET", "/flows/{flow_id}/diff", flows.diff_revisions)
PREPARE_TEST_EVENT: Final = Operation("GET", "/flows/{flow_id}/test", test_events.prepare_test_event)
SEND_TEST_EVENT: Final = Operation("POST", "/flows/{flow_id}/test", test_events.send_test_event)
SIGN_TEST_EVENT: Final = Operation("POST", "/flows/{flow_id}/test/sign", test_events.sign_test_event)
PAUSE_FLOW: Final = Operation("POST", "/flows/{flow_id}/pause", flows.pause_flow)
RESUME_FLOW: Final = Operation("POST", "/flows/{flow_id}/resume", flows.resume_flow)
LIST_EXECUTIONS: Final = Operation("GET", "/executions", execution_list.list_executions, items="executions")
COUNT_EXECUTIONS: Final = Operation("GET", "/executions/count", execution_list.count_executions)
GET_EXECUTION: Final = Operation("GET", "/executions/{execution_id}", executions.get_execution)
READ_BODY: Final = Operation(
    "GET", "/executions/{execution_id}/body", executions.read_body, download="{execution_id}.bin"
)
DIFF_EXECUTIONS: Final = Operation("GET", "/executions/{execution_id}/diff", executions.diff_executions)
GET_EXECUTION_PICTURE: Final = Operation("GET", "/executions/{execution_id}/picture", executions.get_execution_picture)
LIST_PARTS: Final = Operation("GET", "/executions/{execution_id}/parts", parts.list_parts)
READ_PART: Final = Operation("GET", "/executions/{execution_id}/parts/{index}", parts.read_part)
TRACE_EXECUTION: Final = Operation("GET", "/executions/{execution_id}/trace", executions.trace_execution)
PREVIEW_REPLAY: Final = Operation("GET", "/executions/{execution_id}/replay", executions.preview_replay)
REPLAY_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/replay", executions.replay_execution)
CANCEL_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/cancel", executions.cancel_execution)
SUSPEND_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/suspend", executions.suspend_execution)
RESUME_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/resume", executions.resume_execution)
RETRY_EXECUTION_NOW: Final = Operation("POST", "/executions/{execution_id}/retry-now", executions.retry_execution_now)
RESOLVE_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/resolve", executions.resolve_execution)
DELETE_EXECUTION: Final = Operation("POST", "/executions/{execution_id}/delete", executions.delete_execution)
LIST_FAULTS: Final = Operation("GET", "/faults", execution_list.list_faults)
LIST_INCIDENTS: Final = Operation("GET", "/incidents", logs.list_incidents, items="incidents")
GET_INCIDENT: Final = Operation("GET", "/incidents/{incident_id}", logs.get_incident)
PROBE_INCIDENT: Final = Operation("POST", "/incidents/{incident_id}/probe", logs.probe_incident)
LET_INCIDENT_FAIL: Final = Operation("POST", "/incidents/{incident_id}/let-fail", logs.let_incident_fail)
LIST_JOBS: Final = Operation("GET", "/jobs", jobs.list_jobs, items="jobs")
PREVIEW_JOB: Final = Operation("GET", "/jobs/new", jobs.preview_job)
CREATE_JOB: Final = Operation("POST", "/jobs", jobs.create_job)
GET_JOB: Final = Operation("GET", "/jobs/{job_id}", jobs.get_job)
LIST_JOB_ITEMS: Final = Operation("GET", "/jobs/{job_id}/items", jobs.list_job_items, items="items")
PAUSE_JOB: Final = Operation("POST", "/jobs/{job_id}/pause", jobs.pause_job)
RESUME_JOB: Final = Operation("POST", "/jobs/{job_id}/resume", jobs.resume_job)
ABORT_JOB: Final = Operation("POST", "/jobs/{job_id}/abort", jobs.abort_job)
LIST_REQUESTS: Final = Operation("GET", "/requests", logs.list_requests, items="requests")
LIST_REJECTIONS: Final = Operation("GET", "/rejections", logs.list_rejections, items="rejections")
GET_REJECTION: Final = Operation("GET", "/rejections/{rejection_id}", logs.get_rejection)
READ_REJECTION_BODY: Final = Operation(
    "GET", "/rejections/{rejection_id}/body", logs.read_rejection_body, download="{rejection_id}.bin"
)
ACCEPT_REJECTION: Final = Operation("POST", "/rejections/{rejection_id}/accept", logs.accept_rejection)
LIST_SECRETS: Final = Operation("GET", "/secrets", secrets.list_secrets)
SET_SECRET: Final = Operation("POST", "/secrets", secrets.set_secret)
DELETE_SECRET: Final = Operation("POST", "/secrets/{name}/delete", secrets.delete_secret)
GET_CLUSTER: Final = Operation("GET", "/cluster", cluster.get_cluster)
LIST_SHARDS: Final = Operation("GET", "/cluster/shards", cluster.list_shards)
DISMISS_PROCESS: Final = Operation("POST", "/cluster/processes/{name}/dismiss", cluster.dismiss_process)
HAND_OVER: Final = Operation("POST", "/cluster/hand-over", cluster.hand_over)
LIST_AUDIT: Final = Operation("GET", "/audit", logs.list_audit, items="entries")
EXPORT_AUDIT: Final = Operation("GET", "/audit/export", logs.export_audit, download="audit.jsonl")

# all operations, in the order in which they are described
OPERATIONS: Final[tuple[Operation[Any], ...]] = tuple(
    each for each in globals().values() if isinstance(each, Operation)
)
