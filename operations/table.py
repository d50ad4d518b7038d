"""The table of all operations: what `/api` offers, and what the console's forms do."""

from __future__ import annotations

from typing import Any, Final

from flowhook.model.cluster import ClusterShards, HandOver
from flowhook.model.execution_trace import ExecutionTrace
from flowhook.model.executions import Execution
from flowhook.model.flows import AppliedFlow, Flow
from flowhook.model.replays import ReplayPreview
from operations import (
    audit,
    cluster,
    execution_diff,
    execution_list,
    executions,
    faults,
    flow_check,
    flow_pictures,
    flow_revisions,
    flow_setup,
    flow_statistics,
    flows,
    jobs,
    parts,
    rejections,
    replays,
    secrets,
    test_drafts,
    test_events,
    traces,
)
from operations.operation import Operation

LIST_FLOWS: Final = Operation(
    "list_flows",
    "GET",
    "/flows",
    "List flows by ID, with their numbers.",
    flow_statistics.FlowList,
    flow_statistics.FlowPage,
    flow_statistics.list_flows,
    items="flows",
)
GET_FLOW: Final = Operation(
    "get_flow", "GET", "/flows/{flow_id}", "Get a flow.", flows.FlowAtRevision, flows.FlowDetail, flows.get_flow
)
GET_FLOW_STATISTICS: Final = Operation(
    "get_flow_statistics",
    "GET",
    "/flows/{flow_id}/statistics",
    "Get the numbers of a flow: rates, errors, its queue, its secrets.",
    flows.FlowName,
    flow_statistics.FlowNumbers,
    flow_statistics.get_flow_statistics,
)
APPLY_FLOW: Final = Operation(
    "apply_flow",
    "POST",
    "/flows",
    "Create a flow, or give it a new revision; or check its file.",
    flows.FlowDocument,
    AppliedFlow,
    flows.apply_flow,
)
CHECK_FLOW: Final = Operation(
    "check_flow",
    "POST",
    "/check",
    "Check the file of a flow: its problems by line or, if there is none, what applying it would change.",
    flow_check.FlowText,
    flow_check.CheckedFlow,
    flow_check.check_flow,
)
DELETE_FLOW: Final = Operation(
    "delete_flow",
    "POST",
    "/flows/{flow_id}/delete",
    "Delete a flow: its URL answers 404; executions that were accepted finish.",
    flows.FlowName,
    flows.DeletedFlow,
    flows.delete_flow,
)
GET_FLOW_SETUP: Final = Operation(
    "get_flow_setup",
    "GET",
    "/flows/{flow_id}/setup",
    "Get how a flow is reached: URLs, set-up steps of senders, secrets, limits and next times.",
    flows.FlowName,
    flow_setup.FlowSetup,
    flows.get_flow_setup,
    uses_tools=True,
)
GET_FLOW_PICTURE: Final = Operation(
    "get_flow_picture",
    "GET",
    "/flows/{flow_id}/picture",
    "Draw a flow.",
    flows.FlowAtRevision,
    flow_pictures.FlowPicture,
    flow_pictures.get_flow_picture,
)
LIST_REVISIONS: Final = Operation(
    "list_revisions",
    "GET",
    "/flows/{flow_id}/revisions",
    "List the stored revisions of a flow, newest first.",
    flow_revisions.RevisionList,
    flow_revisions.RevisionPage,
    flow_revisions.list_revisions,
    items="revisions",
)
DIFF_REVISIONS: Final = Operation(
    "diff_revisions",
    "GET",
    "/flows/{flow_id}/diff",
    "Compare the files of two revisions of a flow.",
    flow_revisions.RevisionPair,
    flow_revisions.RevisionDiff,
    flow_revisions.diff_revisions,
)
PREPARE_TEST_EVENT: Final = Operation(
    "prepare_test_event",
    "GET",
    "/flows/{flow_id}/test",
    "Prepare a test event of a flow, from a provider's sample or from a stored execution.",
    test_drafts.TestSource,
    test_drafts.TestDraft,
    test_drafts.prepare_test_event,
)
SEND_TEST_EVENT: Final = Operation(
    "send_test_event",
    "POST",
    "/flows/{flow_id}/test",
    "Send a test event to an edge, signed as the flow requires.",
    test_events.SentTestEvent,
    test_events.SentEvent,
    test_events.send_test_event,
    uses_tools=True,
)
SIGN_TEST_EVENT: Final = Operation(
    "sign_test_event",
    "POST",
    "/flows/{flow_id}/test/sign",
    "Sign a test event without sending it, and write it as a shell command.",
    test_events.TestEvent,
    test_events.SignedEvent,
    test_events.sign_test_event,
    uses_tools=True,
)
PAUSE_FLOW: Final = Operation(
    "pause_flow",
    "POST",
    "/flows/{flow_id}/pause",
    "Pause a flow: events are accepted and queued, and not run.",
    flows.FlowName,
    Flow,
    flows.pause_flow,
)
RESUME_FLOW: Final = Operation(
    "resume_flow",
    "POST",
    "/flows/{flow_id}/resume",
    "Resume a flow: queued and new events are run.",
    flows.FlowName,
    Flow,
    flows.resume_flow,
)
LIST_EXECUTIONS: Final = Operation(
    "list_executions",
    "GET",
    "/executions",
    "List executions, newest first.",
    execution_list.ExecutionList,
    execution_list.ExecutionPage,
    execution_list.list_executions,
    uses_tools=True,
    items="executions",
)
COUNT_EXECUTIONS: Final = Operation(
    "count_executions",
    "GET",
    "/executions/count",
    "Count executions, up to 10,000.",
    execution_list.ExecutionConditions,
    execution_list.ExecutionTotal,
    execution_list.count_executions,
)
GET_EXECUTION: Final = Operation(
    "get_execution",
    "GET",
    "/executions/{execution_id}",
    "Get an execution with its request, its tasks and its output.",
    executions.GetExecution,
    executions.ExecutionDetailView,
    executions.get_execution,
)
READ_BODY: Final = Operation(
    "read_body",
    "GET",
    "/executions/{execution_id}/body",
    "Read the body of the request that started an execution, byte for byte.",
    executions.ExecutionId,
    bytes,
    executions.read_body,
    download="{execution_id}.bin",
)
DIFF_EXECUTIONS: Final = Operation(
    "diff_executions",
    "GET",
    "/executions/{execution_id}/diff",
    "Compare two executions: requests, tasks and results.",
    execution_diff.DiffParameters,
    execution_diff.ComparedExecutions,
    execution_diff.diff_executions,
    uses_tools=True,
)
LIST_PARTS: Final = Operation(
    "list_parts",
    "GET",
    "/executions/{execution_id}/parts",
    "List the attachments of the request that started an execution.",
    executions.ExecutionId,
    parts.PartList,
    parts.list_parts,
    uses_tools=True,
)
READ_PART: Final = Operation(
    "read_part",
    "GET",
    "/executions/{execution_id}/parts/{index}",
    "Read an attachment of the request that started an execution, byte for byte.",
    parts.PartNumber,
    bytes,
    parts.read_part,
    uses_tools=True,
)
TRACE_EXECUTION: Final = Operation(
    "trace_execution",
    "GET",
    "/executions/{execution_id}/trace",
    "Recompute the data of each task of an execution from its event and its journal, without performing any effect.",
    traces.TracedExecution,
    ExecutionTrace,
    traces.trace_execution,
    uses_tools=True,
)
REPLAY_EXECUTION: Final = Operation(
    "replay_execution",
    "POST",
    "/executions/{execution_id}/replay",
    "Start a new execution from the stored request of one that ended.",
    replays.Replay,
    Execution,
    replays.replay_execution,
)
PREVIEW_REPLAY: Final = Operation(
    "preview_replay",
    "GET",
    "/executions/{execution_id}/replay",
    "Say which tasks a replay would take over and which would run again; start nothing.",
    replays.ReplayChoice,
    ReplayPreview,
    replays.preview_replay,
)
CANCEL_EXECUTION: Final = Operation(
    "cancel_execution",
    "POST",
    "/executions/{execution_id}/cancel",
    "Cancel an execution that has not ended.",
    executions.ExecutionId,
    Execution,
    executions.cancel_execution,
)
SUSPEND_EXECUTION: Final = Operation(
    "suspend_execution",
    "POST",
    "/executions/{execution_id}/suspend",
    "Suspend an execution that has not ended.",
    executions.ExecutionId,
    Execution,
    executions.suspend_execution,
)
RESUME_EXECUTION: Final = Operation(
    "resume_execution",
    "POST",
    "/executions/{execution_id}/resume",
    "Resume a suspended execution.",
    executions.ExecutionId,
    Execution,
    executions.resume_execution,
)
RETRY_EXECUTION_NOW: Final = Operation(
    "retry_execution_now",
    "POST",
    "/executions/{execution_id}/retry-now",
    "Try again at once what failed in an execution that waits for its next try.",
    executions.ExecutionId,
    Execution,
    executions.retry_execution_now,
)
RESOLVE_EXECUTION: Final = Operation(
    "resolve_execution",
    "POST",
    "/executions/{execution_id}/resolve",
    "Mark a failed execution as resolved.",
    executions.Resolve,
    Execution,
    executions.resolve_execution,
)
DELETE_EXECUTION: Final = Operation(
    "delete_execution",
    "POST",
    "/executions/{execution_id}/delete",
    "Delete an execution that has ended, or erase all that is stored of its event.",
    executions.Delete,
    executions.Deletion,
    executions.delete_execution,
)
LIST_FAULTS: Final = Operation(
    "list_faults",
    "GET",
    "/faults",
    "Group the faulted executions that were neither replayed nor resolved.",
    faults.FaultList,
    faults.Faults,
    faults.list_faults,
)
LIST_JOBS: Final = Operation(
    "list_jobs",
    "GET",
    "/jobs",
    "List bulk jobs, newest first.",
    jobs.JobList,
    jobs.JobPage,
    jobs.list_jobs,
    items="jobs",
)
PREVIEW_JOB: Final = Operation(
    "preview_job",
    "GET",
    "/jobs/new",
    "Count the executions that a job would work on, and show some; nothing is created.",
    jobs.JobDraft,
    jobs.PreviewView,
    jobs.preview_job,
)
CREATE_JOB: Final = Operation(
    "create_job",
    "POST",
    "/jobs",
    "Create a bulk job: one action on all executions that meet conditions.",
    jobs.NewJob,
    jobs.JobView,
    jobs.create_job,
)
GET_JOB: Final = Operation(
    "get_job",
    "GET",
    "/jobs/{job_id}",
    "Get a job with its progress.",
    jobs.JobId,
    jobs.JobView,
    jobs.get_job,
)
LIST_JOB_ITEMS: Final = Operation(
    "list_job_items",
    "GET",
    "/jobs/{job_id}/items",
    "List the outcomes of a job's executions.",
    jobs.JobItemList,
    jobs.ItemPage,
    jobs.list_job_items,
    items="items",
)
PAUSE_JOB: Final = Operation(
    "pause_job",
    "POST",
    "/jobs/{job_id}/pause",
    "Pause a job.",
    jobs.JobId,
    jobs.JobView,
    jobs.pause_job,
)
RESUME_JOB: Final = Operation(
    "resume_job",
    "POST",
    "/jobs/{job_id}/resume",
    "Let a paused job continue.",
    jobs.JobId,
    jobs.JobView,
    jobs.resume_job,
)
ABORT_JOB: Final = Operation(
    "abort_job",
    "POST",
    "/jobs/{job_id}/abort",
    "End a job early; what it did stays done.",
    jobs.JobId,
    jobs.JobView,
    jobs.abort_job,
)
LIST_REJECTIONS: Final = Operation(
    "list_rejections",
    "GET",
    "/rejections",
    "List refused requests, newest first.",
    rejections.RejectionList,
    rejections.RejectionPage,
    rejections.list_rejections,
    items="rejections",
)
GET_REJECTION: Final = Operation(
    "get_rejection",
    "GET",
    "/rejections/{rejection_id}",
    "Get a refused request.",
    rejections.RejectionId,
    rejections.RejectionDetail,
    rejections.get_rejection,
)
READ_REJECTION_BODY: Final = Operation(
    "read_rejection_body",
    "GET",
    "/rejections/{rejection_id}/body",
    "Read the body of a refused request, byte for byte, if the flow stores it: its first 64 KiB.",
    rejections.RejectionId,
    bytes,
    rejections.read_rejection_body,
    download="{rejection_id}.bin",
)
ACCEPT_REJECTION: Final = Operation(
    "accept_rejection",
    "POST",
    "/rejections/{rejection_id}/accept",
    "Verify a refused request again, after its flow or a secret was corrected, and accept it.",
    rejections.RejectionId,
    rejections.AcceptedRequest,
    rejections.accept_rejection,
)
LIST_SECRETS: Final = Operation(
    "list_secrets",
    "GET",
    "/secrets",
    "List the names of secrets, and the flows that name them.",
    secrets.SecretList,
    secrets.SecretNames,
    secrets.list_secrets,
)
SET_SECRET: Final = Operation(
    "set_secret",
    "POST",
    "/secrets",
    "Create or replace a secret.",
    secrets.SecretValue,
    secrets.StoredSecret,
    secrets.set_secret,
)
DELETE_SECRET: Final = Operation(
    "delete_secret",
    "POST",
    "/secrets/{name}/delete",
    "Delete a secret.",
    secrets.SecretName,
    secrets.Deleted,
    secrets.delete_secret,
)
GET_CLUSTER: Final = Operation(
    "get_cluster",
    "GET",
    "/cluster",
    "Get the processes and the shards of the cluster.",
    cluster.NoParameters,
    cluster.ClusterState,
    cluster.get_cluster,
)
LIST_SHARDS: Final = Operation(
    "list_shards",
    "GET",
    "/cluster/shards",
    "List the shards with their routers, and the servers of the log; any router answers.",
    cluster.NoParameters,
    ClusterShards,
    cluster.list_shards,
)
DISMISS_PROCESS: Final = Operation(
    "dismiss_process",
    "POST",
    "/cluster/processes/{name}/dismiss",
    "Forget a process that has ended and will not come back, before its hour is over.",
    cluster.ProcessName,
    cluster.DismissedProcess,
    cluster.dismiss_process,
)
HAND_OVER: Final = Operation(
    "hand_over",
    "POST",
    "/cluster/hand-over",
    "Have the owner of the shard hand it over to a standby.",
    cluster.Successor,
    HandOver,
    cluster.hand_over,
)
LIST_AUDIT: Final = Operation(
    "list_audit",
    "GET",
    "/audit",
    "List what was changed, by whom, newest first.",
    audit.AuditList,
    audit.AuditPage,
    audit.list_audit,
    items="entries",
)
EXPORT_AUDIT: Final = Operation(
    "export_audit",
    "GET",
    "/audit/export",
    "Read the audit log as JSON objects, one a line, newest first.",
    audit.AuditConditions,
    bytes,
    audit.export_audit,
    download="audit.jsonl",
)

# all operations, in the order in which they are described
OPERATIONS: Final[tuple[Operation[Any], ...]] = (
    LIST_FLOWS,
    GET_FLOW,
    GET_FLOW_STATISTICS,
    APPLY_FLOW,
    CHECK_FLOW,
    DELETE_FLOW,
    GET_FLOW_SETUP,
    GET_FLOW_PICTURE,
    LIST_REVISIONS,
    DIFF_REVISIONS,
    PREPARE_TEST_EVENT,
    SEND_TEST_EVENT,
    SIGN_TEST_EVENT,
    PAUSE_FLOW,
    RESUME_FLOW,
    LIST_EXECUTIONS,
    COUNT_EXECUTIONS,
    GET_EXECUTION,
    READ_BODY,
    DIFF_EXECUTIONS,
    LIST_PARTS,
    READ_PART,
    TRACE_EXECUTION,
    PREVIEW_REPLAY,
    REPLAY_EXECUTION,
    CANCEL_EXECUTION,
    SUSPEND_EXECUTION,
    RESUME_EXECUTION,
    RETRY_EXECUTION_NOW,
    RESOLVE_EXECUTION,
    DELETE_EXECUTION,
    LIST_FAULTS,
    LIST_JOBS,
    PREVIEW_JOB,
    CREATE_JOB,
    GET_JOB,
    LIST_JOB_ITEMS,
    PAUSE_JOB,
    RESUME_JOB,
    ABORT_JOB,
    LIST_REJECTIONS,
    GET_REJECTION,
    READ_REJECTION_BODY,
    ACCEPT_REJECTION,
    LIST_SECRETS,
    SET_SECRET,
    DELETE_SECRET,
    GET_CLUSTER,
    LIST_SHARDS,
    DISMISS_PROCESS,
    HAND_OVER,
    LIST_AUDIT,
    EXPORT_AUDIT,
)
