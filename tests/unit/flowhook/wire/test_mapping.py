"""Model types arrive as they were sent, and have the fields of their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_values import values

from flowhook.model import Event, Execution, ExecutionDetail, Flow, FlowRevision, Status, WorkflowError
from flowhook.model.audit import AuditEntry
from flowhook.model.cluster import Backlog, LogServerInfo, ProcessInfo, ShardCopyInfo, SnapshotInfo, StorageUsage
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import (
    Attempt,
    DeletedExecutions,
    ExecutionChange,
    ExecutionCount,
    ExecutionLinks,
    LinkedExecution,
    LinkKind,
    ScannedExecution,
)
from flowhook.model.flows import FlowStatistics, SecretUses
from flowhook.model.incidents import Incident
from flowhook.model.jobs import ItemOutcome, Job, JobItem, JobPreview, JobSpec
from flowhook.model.rejections import AcceptedRejection, RejectedRequest, RejectionCount
from flowhook.model.replays import ReplayPreview
from flowhook.v1 import (
    audit_service_pb2,
    cluster_service_pb2,
    envelope_pb2,
    execution_service_pb2,
    failure_pb2,
    flow_service_pb2,
    incident_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    secret_service_pb2,
    shard_service_pb2,
)
from flowhook.wire.mapping import enum_from_proto, enum_to_proto, from_proto, to_proto

PAIRS = {
    Event: envelope_pb2.Event,
    WorkflowError: failure_pb2.WorkflowError,
    Execution: execution_service_pb2.Execution,
    ExecutionDetail: execution_service_pb2.GetExecutionResponse,
    ExecutionFilter: execution_service_pb2.ExecutionFilter,
    ExecutionLinks: execution_service_pb2.ExecutionLinks,
    ExecutionCount: execution_service_pb2.CountExecutionsResponse,
    ExecutionChange: execution_service_pb2.WatchExecutionsResponse,
    DeletedExecutions: execution_service_pb2.DeleteExecutionResponse,
    ReplayPreview: execution_service_pb2.PreviewReplayResponse,
    Job: job_service_pb2.Job,
    JobSpec: job_service_pb2.JobSpec,
    JobItem: job_service_pb2.JobItem,
    JobPreview: job_service_pb2.PreviewJobResponse,
    Flow: flow_service_pb2.Flow,
    FlowRevision: flow_service_pb2.FlowRevision,
    FlowStatistics: flow_service_pb2.FlowStatistics,
    SecretUses: secret_service_pb2.ListSecretsResponse,
    RejectedRequest: rejection_service_pb2.Rejection,
    RejectionCount: rejection_service_pb2.RejectionCount,
    AcceptedRejection: rejection_service_pb2.AcceptRejectionResponse,
    Incident: incident_service_pb2.Incident,
    AuditEntry: audit_service_pb2.AuditEntry,
    ProcessInfo: cluster_service_pb2.Process,
    Backlog: cluster_service_pb2.Backlog,
    StorageUsage: cluster_service_pb2.StorageUsage,
    ShardCopyInfo: shard_service_pb2.ShardCopy,
    SnapshotInfo: shard_service_pb2.Snapshot,
    LogServerInfo: shard_service_pb2.LogServer,
}
"""Model types and their messages; the types of their fields are tried with them."""


@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_value_arrives_as_it_was_sent(kind, data):
    value = data.draw(values(kind))
    sent = to_proto(value, PAIRS[kind]).SerializeToString()
    assert from_proto(PAIRS[kind].FromString(sent), kind) == value


@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.__name__)
def test_what_is_absent_is_not_sent(kind):
    message = PAIRS[kind]()
    try:
        value = from_proto(message, kind)
    except KeyError:
        return  # it has an enum without a value for that
    assert from_proto(PAIRS[kind].FromString(to_proto(value, PAIRS[kind]).SerializeToString()), kind) == value


def test_none_and_what_is_empty_are_told_apart_where_a_field_has_presence():
    for wanted in (ALL, ExecutionFilter(error_task=""), ExecutionFilter(receive_until_ms=0)):
        assert from_proto(to_proto(wanted, execution_service_pb2.ExecutionFilter), ExecutionFilter) == wanted


def test_an_event_is_sent_within_bytes():
    event = envelope_pb2.Event(id="evt_1").SerializeToString()
    scanned = ScannedExecution(EXECUTION, event, has_webhook=True, raw=False, next_page_token="t")
    assert from_proto(to_proto(scanned, execution_service_pb2.ScannedEvent), ScannedExecution) == scanned


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(Execution):
    """An execution with more than is sent."""

    seq: int


EXECUTION = Execution("evt_1", "shop", 1, Status.FAULTED, 1, 0)


def test_a_subclass_is_sent_as_the_model_type():
    stored = Stored("evt_1", "shop", 1, Status.FAULTED, 1, 0, seq=7)
    assert from_proto(to_proto(stored, execution_service_pb2.Execution), Execution) == EXECUTION


class Retold(NamedTuple):
    """Less than an execution count has."""

    __module__ = "flowhook.model"
    count: int


def test_a_type_must_have_the_fields_of_its_message():
    with pytest.raises(TypeError, match="differ in more"):
        to_proto(Retold(1), execution_service_pb2.CountExecutionsResponse)


def test_values_of_a_newer_version_become_the_safest_ones():
    message = execution_service_pb2.Execution(status=99)
    assert from_proto(message, Execution).status is Status.PENDING
    attempt = execution_service_pb2.Attempt(number=1, end=99)
    attempt.end_time.seconds = 1
    found = from_proto(attempt, Attempt)
    assert (found.end, found.reason) == (None, "unknown reason")
    linked = execution_service_pb2.LinkedExecution(id="evt_1", kinds=[1, 99])
    assert from_proto(linked, LinkedExecution) == LinkedExecution("evt_1", (LinkKind.RUN,))


def test_a_job_without_an_action_is_refused():
    with pytest.raises(KeyError):
        from_proto(job_service_pb2.JobSpec(), JobSpec)


@pytest.mark.parametrize("outcome", [*ItemOutcome, None])
def test_a_value_of_an_enum_arrives_as_it_was_sent(outcome):
    sent = enum_to_proto(outcome, job_service_pb2.JobItem.Outcome)
    found = enum_from_proto(sent, ItemOutcome, job_service_pb2.JobItem.Outcome) if sent else None
    assert found is outcome
