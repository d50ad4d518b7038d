"""Pure conversion of jobs between `flowhook.model.jobs` and `flowhook.v1`, as in `convert`."""

from __future__ import annotations

from flowhook.model.jobs import (
    DEFAULT_RATE,
    ItemOutcome,
    Job,
    JobAction,
    JobItem,
    JobSpec,
    JobState,
    ReplayEnds,
    SampledReplay,
)
from flowhook.model.replays import AS_RECORDED
from flowhook.v1 import job_service_pb2
from flowhook.wire.convert import (
    filter_from_proto,
    filter_to_proto,
    milliseconds,
    optional_milliseconds,
    optional_timestamp,
    status_from_proto,
    status_to_proto,
    timestamp,
)
from flowhook.wire.convert_replays import options_from_proto, preview_from_proto, replay_to_proto

_SpecPb = job_service_pb2.JobSpec
_JobPb = job_service_pb2.Job
_ItemPb = job_service_pb2.JobItem
_ACTION_TO_PROTO = {
    JobAction.REPLAY: _SpecPb.ACTION_REPLAY,
    JobAction.CANCEL: _SpecPb.ACTION_CANCEL,
    JobAction.SUSPEND: _SpecPb.ACTION_SUSPEND,
    JobAction.RESUME: _SpecPb.ACTION_RESUME,
    JobAction.RESOLVE: _SpecPb.ACTION_RESOLVE,
    JobAction.DELETE: _SpecPb.ACTION_DELETE,
}
_ACTION_FROM_PROTO: dict[int, JobAction] = {value: action for action, value in _ACTION_TO_PROTO.items()}
_STATE_TO_PROTO = {
    JobState.PENDING: _JobPb.STATE_PENDING,
    JobState.RUNNING: _JobPb.STATE_RUNNING,
    JobState.PAUSED: _JobPb.STATE_PAUSED,
    JobState.ABORTED: _JobPb.STATE_ABORTED,
    JobState.COMPLETED: _JobPb.STATE_COMPLETED,
}
_STATE_FROM_PROTO: dict[int, JobState] = {value: state for state, value in _STATE_TO_PROTO.items()}
_OUTCOME_TO_PROTO = {
    ItemOutcome.PENDING: _ItemPb.OUTCOME_PENDING,
    ItemOutcome.DONE: _ItemPb.OUTCOME_DONE,
    ItemOutcome.SKIPPED: _ItemPb.OUTCOME_SKIPPED,
    ItemOutcome.FAILED: _ItemPb.OUTCOME_FAILED,
}
_OUTCOME_FROM_PROTO: dict[int, ItemOutcome] = {value: outcome for outcome, value in _OUTCOME_TO_PROTO.items()}


def spec_to_proto(spec: JobSpec) -> job_service_pb2.JobSpec:
    """Return what a job does as a message.

    Raises:
        InvalidError: options of its replays do not go together; see `replay_to_proto`.
    """
    return _SpecPb(
        action=_ACTION_TO_PROTO[spec.action],
        filter=filter_to_proto(spec.filter),
        again=spec.again,
        rate=spec.rate,
        reason=spec.reason,
        replay=None if spec.replay == AS_RECORDED else replay_to_proto(spec.replay),
    )


def spec_from_proto(message: job_service_pb2.JobSpec) -> JobSpec:
    """Return what a job does, as a message says.

    Raises:
        KeyError: the action is unspecified, or one of a newer version.
    """
    return JobSpec(
        action=_ACTION_FROM_PROTO[message.action],
        filter=filter_from_proto(message.filter),
        replay=options_from_proto(message.replay),
        again=message.again,
        rate=message.rate or DEFAULT_RATE,
        reason=message.reason,
    )


def job_to_proto(job: Job) -> job_service_pb2.Job:
    """Return a job as a message."""
    return _JobPb(
        id=job.id,
        state=_STATE_TO_PROTO[job.state],
        spec=spec_to_proto(job.spec),
        expected=job.expected,
        matched=job.matched,
        done=job.done,
        skipped=job.skipped,
        failed=job.failed,
        create_time=timestamp(job.create_time_ms),
        start_time=optional_timestamp(job.start_time_ms),
        end_time=optional_timestamp(job.end_time_ms),
        delay_reason=job.delay_reason,
        data_bytes=job.data_bytes,
        replay_ends=None if job.replay_ends is None else job_service_pb2.ReplayEnds(**job.replay_ends._asdict()),
    )


def job_from_proto(message: job_service_pb2.Job) -> Job:
    """Return the job that a message holds."""
    return Job(
        id=message.id,
        state=_STATE_FROM_PROTO[message.state],
        spec=spec_from_proto(message.spec),
        expected=message.expected if message.HasField("expected") else None,
        matched=message.matched,
        done=message.done,
        skipped=message.skipped,
        failed=message.failed,
        create_time_ms=milliseconds(message.create_time),
        start_time_ms=optional_milliseconds(message, "start_time"),
        end_time_ms=optional_milliseconds(message, "end_time"),
        delay_reason=message.delay_reason,
        data_bytes=message.data_bytes,
        replay_ends=_ends_from_proto(message.replay_ends) if message.HasField("replay_ends") else None,
    )


def _ends_from_proto(message: job_service_pb2.ReplayEnds) -> ReplayEnds:
    return ReplayEnds(message.completed, message.faulted, message.cancelled, message.unended, message.unknown)


def item_to_proto(item: JobItem) -> job_service_pb2.JobItem:
    """Return the outcome of an execution as a message."""
    return _ItemPb(
        number=item.number,
        execution_id=item.execution_id,
        outcome=_OUTCOME_TO_PROTO[item.outcome],
        reason=item.reason,
        message=item.message,
        new_execution_id=item.new_execution_id,
        time=timestamp(item.time_ms),
        new_execution_status=None if item.new_execution_status is None else status_to_proto(item.new_execution_status),
    )


def item_from_proto(message: job_service_pb2.JobItem) -> JobItem:
    """Return the outcome of an execution that a message holds."""
    return JobItem(
        message.number,
        message.execution_id,
        _OUTCOME_FROM_PROTO[message.outcome],
        message.reason,
        message.message,
        message.new_execution_id,
        milliseconds(message.time),
        status_from_proto(message.new_execution_status) if message.new_execution_status else None,
    )


def sampled_from_proto(message: job_service_pb2.SampledReplay) -> SampledReplay:
    """Return what a message says that the replay of one execution would do."""
    preview = preview_from_proto(message.preview) if message.HasField("preview") else None
    return SampledReplay(preview, message.reason, message.message)


def outcome_to_proto(outcome: ItemOutcome | None) -> job_service_pb2.JobItem.Outcome:
    """Return an outcome as its enum value; None: any."""
    return _ItemPb.OUTCOME_UNSPECIFIED if outcome is None else _OUTCOME_TO_PROTO[outcome]


def outcome_from_proto(value: int) -> ItemOutcome | None:
    """Return the outcome that an enum value stands for; None: any.

    Raises:
        KeyError: there is no such value.
    """
    return None if value == _ItemPb.OUTCOME_UNSPECIFIED else _OUTCOME_FROM_PROTO[value]
