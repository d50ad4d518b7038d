"""JobService: creates, shows and controls bulk jobs."""

from __future__ import annotations

from typing import Final

import attrs

from flowhook.errors import FlowhookError, InvalidError, NotFoundError
from flowhook.model.jobs import ItemOutcome, Job, JobState, SampledReplay
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import execution_service_pb2, job_service_pb2_grpc
from flowhook.v1 import job_service_pb2 as pb
from flowhook.wire.mapping import enum_from_proto, to_proto
from router.calls.error_mapping import check_request_id, unary_rpc
from router.calls.paging import parse_page, split_page
from router.jobs.job_runner import MAX_MESSAGE, JobRunner
from router.jobs.job_specs import (
    invalid,
    load_spec,
    mint_job_id,
    read_conditions,
    read_spec,
    split_spec,
)
from router.replay.replays import Replays
from router.services.execution import listed, read_options
from router.storage.jobs import NewJob, StoredJob
from router.storage.model import ExecutionRecord

DEFAULT_JOBS: Final = 50
DEFAULT_ITEMS: Final = 100

# tasks in each list of the preview of one execution: there are ten, and they must fit into a message
MAX_TASKS: Final = 100

_NOT_SHOWN: Final = frozenset({"number", "spec", "last_seq", "cursor", "request_id"})  # fields of a stored job


@attrs.define(eq=False, repr=False, kw_only=True)
class JobService(job_service_pb2_grpc.JobServiceServicer):
    """See protos/flowhook/v1/job_service.proto."""

    _runner: JobRunner
    _replays: Replays

    @unary_rpc
    async def PreviewJob(self, request: pb.PreviewJobRequest) -> pb.PreviewJobResponse:
        """Return how many executions meet the conditions, and a sample with what a replay of it would be."""
        wanted = read_conditions(request.filter)
        asked = request.HasField("replay")
        options = read_job_options(request.replay)
        if asked:
            await self._replays.check_output(options, wanted.flow_id)
        preview = await self._runner.matching.preview(wanted)
        sample = preview.sample if asked else ()
        replays = [await self._sampled(each, options, again=request.again) for each in sample]
        return pb.PreviewJobResponse(
            count=preview.count,
            more=preview.more,
            sample=[to_proto(listed(record), execution_service_pb2.Execution) for record in preview.sample],
            replays=replays,
        )

    @unary_rpc
    async def CreateJob(self, request: pb.CreateJobRequest) -> pb.CreateJobResponse:
        """Store a job, which then runs by itself; a repeated `request_id` returns the job that exists."""
        spec = read_spec(request.spec)
        check_request_id(request.request_id)
        await self._replays.check_output(read_job_options(request.spec.replay), spec.filter.flow_id)
        stored, data = split_spec(spec)
        preview = await self._runner.matching.preview(spec.filter)
        now_ms = self._runner.now_ms()
        created = await self._runner.store.create(
            NewJob(
                id=mint_job_id(now_ms),
                spec=stored,
                data=data,
                create_time_ms=now_ms,
                expected=None if preview.more else preview.count,
                request_id=request.request_id,
            )
        )
        self._runner.notify()
        return pb.CreateJobResponse(job=self._job(created))

    @unary_rpc
    async def GetJob(self, request: pb.GetJobRequest) -> pb.GetJobResponse:
        stored = await self._find(request.job_id)
        job = self._job(stored)
        if job.spec.action == pb.JobSpec.ACTION_REPLAY:
            ends = await self._runner.store.replay_ends(stored.number, started=stored.done)
            job.replay_ends.CopyFrom(pb.ReplayEnds(**ends._asdict()))
        return pb.GetJobResponse(job=job)

    @unary_rpc
    async def ListJobs(self, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_JOBS)
        found = await self._runner.store.page(before_number=before, limit=size + 1)
        page, token = split_page(found, size)
        return pb.ListJobsResponse(jobs=map(self._job, page), next_page_token=token)

    @unary_rpc
    async def ListJobItems(self, request: pb.ListJobItemsRequest) -> pb.ListJobItemsResponse:
        size, after = parse_page(request.page_size, request.page_token, DEFAULT_ITEMS)
        try:
            outcome = enum_from_proto(request.outcome, ItemOutcome, pb.JobItem.Outcome) if request.outcome else None
        except KeyError:
            raise InvalidError(f"there is no outcome {request.outcome}", reason="OUTCOME_INVALID") from None
        job = await self._find(request.job_id)
        found = await self._runner.store.items(job.number, after_number=after or 0, limit=size + 1, outcome=outcome)
        page, token = split_page(found, size)
        return pb.ListJobItemsResponse(items=[to_proto(item, pb.JobItem) for item in page], next_page_token=token)

    @unary_rpc
    async def PauseJob(self, request: pb.PauseJobRequest) -> pb.PauseJobResponse:
        return pb.PauseJobResponse(job=await self._change(request.job_id, JobState.PAUSED))

    @unary_rpc
    async def ResumeJob(self, request: pb.ResumeJobRequest) -> pb.ResumeJobResponse:
        return pb.ResumeJobResponse(job=await self._change(request.job_id, JobState.PENDING))

    @unary_rpc
    async def AbortJob(self, request: pb.AbortJobRequest) -> pb.AbortJobResponse:
        return pb.AbortJobResponse(job=await self._change(request.job_id, JobState.ABORTED))

    async def _find(self, job_id: str) -> StoredJob:
        job = await self._runner.store.get(job_id)
        if job is None:
            raise NotFoundError(f"there is no job {job_id[:64]}", reason="JOB_NOT_FOUND")
        return job

    async def _change(self, job_id: str, state: JobState) -> pb.Job:
        return self._job(await self._runner.change_state(job_id, state))

    def _job(self, job: StoredJob) -> pb.Job:
        shown = {name: value for name, value in job._asdict().items() if name not in _NOT_SHOWN}
        spec, delay_reason = load_spec(job.spec, b""), self._runner.delay_reason(job.id)
        return to_proto(Job(**shown, spec=spec, delay_reason=delay_reason), pb.Job)

    async def _sampled(self, record: ExecutionRecord, options: ReplayOptions, *, again: bool) -> pb.SampledReplay:
        """Return what the replay of an execution would do now, or why there would be none."""
        try:
            if not again:
                await self._runner.actions.check_not_superseded(record)
            preview = await self._replays.preview(record.id, options, unless_replayed=not again)
        except FlowhookError as error:
            return pb.SampledReplay(reason=error.reason, message=error.message[:MAX_MESSAGE])
        shown = preview._replace(taken_over=preview.taken_over[:MAX_TASKS], again=preview.again[:MAX_TASKS])
        return to_proto(SampledReplay(shown), pb.SampledReplay)


def read_job_options(request: execution_service_pb2.ReplayExecutionRequest) -> ReplayOptions:
    if request.execution_id or request.request_id or request.unless_replayed:
        raise invalid("`replay` of a job has neither `execution_id` nor `request_id` nor `unless_replayed`")
    return read_options(request)
