"""Conversion of an execution with its tasks, its attempts and its results; see `convert`."""

from __future__ import annotations

from flowhook.model import ExecutionDetail, JournalEntry, TaskRun, TaskState
from flowhook.model.executions import Attempt, AttemptEnd
from flowhook.v1 import execution_service_pb2
from flowhook.wire.convert import (
    attributes_to_proto,
    error_from_proto,
    event_from_proto,
    event_to_proto,
    execution_from_proto,
    execution_to_proto,
    optional_milliseconds,
    optional_timestamp,
    task_record_to_proto,
)

_TaskRunPb = execution_service_pb2.TaskRun
_TASK_STATE_TO_PROTO = {
    TaskState.RUNNING: _TaskRunPb.STATE_RUNNING,
    TaskState.COMPLETED: _TaskRunPb.STATE_COMPLETED,
    TaskState.SKIPPED: _TaskRunPb.STATE_SKIPPED,
    TaskState.CANCELLED: _TaskRunPb.STATE_CANCELLED,
    TaskState.FAULTED: _TaskRunPb.STATE_FAULTED,
}
_TASK_STATE_FROM_PROTO: dict[int, TaskState] = {value: state for state, value in _TASK_STATE_TO_PROTO.items()}

_AttemptPb = execution_service_pb2.Attempt
_ATTEMPT_END_TO_PROTO = {
    AttemptEnd.RUNNER_LOST: _AttemptPb.END_RUNNER_LOST,
    AttemptEnd.LEASE_EXPIRED: _AttemptPb.END_LEASE_EXPIRED,
    AttemptEnd.PROCESS_ENDED: _AttemptPb.END_PROCESS_ENDED,
    AttemptEnd.NOT_HELD: _AttemptPb.END_NOT_HELD,
    AttemptEnd.RELEASED: _AttemptPb.END_RELEASED,
    AttemptEnd.RETRACTED: _AttemptPb.END_RETRACTED,
    AttemptEnd.SUSPENDED: _AttemptPb.END_SUSPENDED,
    AttemptEnd.ROUTER_RESTARTED: _AttemptPb.END_ROUTER_RESTARTED,
    AttemptEnd.EXECUTION_ENDED: _AttemptPb.END_EXECUTION_ENDED,
}
_ATTEMPT_END_FROM_PROTO: dict[int, AttemptEnd] = {value: end for end, value in _ATTEMPT_END_TO_PROTO.items()}


def _task_run_to_proto(run: TaskRun) -> execution_service_pb2.TaskRun:
    return execution_service_pb2.TaskRun(
        number=run.number,
        task=run.task,
        begin_time=optional_timestamp(run.begin_time_ms),
        end_time=optional_timestamp(run.end_time_ms),
        tries=run.tries,
        state=_TASK_STATE_TO_PROTO[run.state],
        detail=run.detail,
    )


def _task_run_from_proto(message: execution_service_pb2.TaskRun) -> TaskRun:
    return TaskRun(
        message.number,
        message.task,
        optional_milliseconds(message, "begin_time"),
        optional_milliseconds(message, "end_time"),
        message.tries,
        _TASK_STATE_FROM_PROTO.get(message.state, TaskState.RUNNING),
        message.detail,
    )


def _attempt_to_proto(attempt: Attempt) -> execution_service_pb2.Attempt:
    return execution_service_pb2.Attempt(
        number=attempt.number,
        runner_id=attempt.runner,
        assign_time=optional_timestamp(attempt.assign_time_ms),
        end_time=optional_timestamp(attempt.end_time_ms),
        end=_AttemptPb.END_UNSPECIFIED if attempt.end is None else _ATTEMPT_END_TO_PROTO[attempt.end],
        detail=attempt.detail,
        charged=attempt.charged,
    )


def _attempt_from_proto(message: execution_service_pb2.Attempt) -> Attempt:
    return Attempt(
        message.number,
        message.runner_id,
        optional_milliseconds(message, "assign_time"),
        optional_milliseconds(message, "end_time"),
        _ATTEMPT_END_FROM_PROTO.get(message.end),
        message.detail,
        message.charged,
    )


def detail_to_proto(detail: ExecutionDetail) -> execution_service_pb2.GetExecutionResponse:
    """Return an execution with its content as the response of GetExecution."""
    return execution_service_pb2.GetExecutionResponse(
        execution=execution_to_proto(detail.execution),
        event=event_to_proto(detail.event),
        tasks=[task_record_to_proto(entry) for entry in detail.journal],
        output=detail.output or b"",
        history=map(_task_run_to_proto, detail.history),
        attributes=attributes_to_proto(detail.attributes),
        attempts=map(_attempt_to_proto, detail.attempts),
        attempts_left_out=detail.attempts_left_out,
        latest_revision=detail.latest_revision,
        body_size=detail.body_size,
        body_cut=detail.cut_body_size is not None,
    )


def detail_from_proto(message: execution_service_pb2.GetExecutionResponse) -> ExecutionDetail:
    """Return the execution with its content that a response of GetExecution holds."""
    return ExecutionDetail(
        execution=execution_from_proto(message.execution),
        event=event_from_proto(message.event),
        journal=tuple(
            JournalEntry(
                task.task,
                None if task.HasField("error") else task.output,
                error_from_proto(task.error) if task.HasField("error") else None,
            )
            for task in message.tasks
        ),
        output=message.output or None,
        history=tuple(map(_task_run_from_proto, message.history)),
        attributes=tuple((each.name, each.value) for each in message.attributes),
        attempts=tuple(map(_attempt_from_proto, message.attempts)),
        attempts_left_out=message.attempts_left_out,
        latest_revision=message.latest_revision,
        cut_body_size=message.body_size if message.body_cut else None,
    )
