"""Reads what a job is to do from requests, and stores it: bodies and outputs apart from the rest."""

from __future__ import annotations

from flowhook.errors import InvalidError
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.jobs import MAX_RATE, MAX_REASON, JobAction, JobSpec
from flowhook.v1 import job_service_pb2 as pb
from flowhook.v1.execution_service_pb2 import ExecutionFilter as ExecutionFilterPb
from flowhook.wire import convert_jobs
from router.executions.filters import read_filter


def split_spec(spec: JobSpec) -> tuple[bytes, bytes]:
    """Return what a job does as stored, without the bytes that its replays get, and these bytes."""
    message = convert_jobs.spec_to_proto(spec)
    data = message.replay.input.body or message.replay.output
    if message.replay.HasField("input"):
        message.replay.input.body = b""
    if message.replay.HasField("output"):
        message.replay.output = b""
    return message.SerializeToString(), data


def load_spec(stored: bytes, data: bytes) -> JobSpec:
    """Return what a job does, given what `split_spec` returned; without data, what is shown of it."""
    message = pb.JobSpec.FromString(stored)
    if message.replay.HasField("input"):
        message.replay.input.body = data
    if message.replay.HasField("output"):
        message.replay.output = data
    return convert_jobs.spec_from_proto(message)


def read_spec(message: pb.JobSpec) -> JobSpec:
    """Return what a job is to do, as a request says.

    Raises:
        InvalidError: the filter has no condition (`FILTER_EMPTY`) or an unacceptable one (`FILTER_INVALID`), or another
            field is not acceptable (`JOB_INVALID`).
    """
    read_conditions(message.filter)
    try:
        spec = convert_jobs.spec_from_proto(message)
    except KeyError:
        raise invalid(f"`action` must be one of {', '.join(JobAction)}") from None
    if spec.action is not JobAction.REPLAY and (message.HasField("replay") or spec.again):
        raise invalid("`replay` and `again` are for the action replay only")
    if not 0 < spec.rate <= MAX_RATE:
        raise invalid(f"`rate` must be above 0 and at most {MAX_RATE:g} executions per second")
    if len(spec.reason) > MAX_REASON:
        raise invalid(f"`reason` must have at most {MAX_REASON} characters")
    return spec


def read_conditions(message: ExecutionFilterPb) -> ExecutionFilter:
    """Return the conditions of a request, at least one.

    Raises:
        InvalidError: there is none (`FILTER_EMPTY`), or an unacceptable one (`FILTER_INVALID`).
    """
    conditions = read_filter(message)
    if conditions == ALL:
        raise InvalidError(
            "the filter has no condition, so it would match all executions: give at least one, such as a flow, a"
            " status or a time",
            reason="FILTER_EMPTY",
        )
    return conditions


def invalid(message: str) -> InvalidError:
    """Return the error for a job that is not acceptable."""
    return InvalidError(message, reason="JOB_INVALID")
