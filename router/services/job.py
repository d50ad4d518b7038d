"""JobService: creates, shows and controls bulk jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flowhook.errors import InvalidError, NotFoundError
from flowhook.execution_filter import ALL, ExecutionFilter
from flowhook.jobs import MAX_RATE, MAX_REASON, Job, JobAction, JobSpec, JobState, mint_job_id
from flowhook.v1 import job_service_pb2 as pb
from flowhook.v1 import job_service_pb2_grpc
from flowhook.v1.execution_service_pb2 import ExecutionFilter as ExecutionFilterPb
from flowhook.v1.execution_service_pb2 import ReplayExecutionRequest
from flowhook.wire import convert, convert_jobs
from router.dispatch.shard_runtime import ShardRuntime
from router.jobs.actions import JobActions, Replay
from router.jobs.job_runner import JobRunner
from router.jobs.matching import MatchingExecutions
from router.services import error_mapping
from router.services.execution import listed
from router.services.filters import read_filter
from router.services.paging import page_token_after, parse_page
from router.services.replays import MAX_REQUEST_ID, Replays
from router.storage.interface import ShardState
from router.storage.jobs import JobStore, NewJob, StoredJob

DEFAULT_JOBS: Final = 50
DEFAULT_ITEMS: Final = 100


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """See protos/flowhook/v1/job_service.proto.

    Attributes:
        runner: runs the jobs.
    """

    def __init__(
        self, *, store: JobStore, runner: JobRunner, matching: MatchingExecutions, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self.runner = runner
        self._matching = matching
        self._now_ms = now_ms

    @error_mapping.rpc_method
    async def PreviewJob(  # noqa: N802 - the name of the RPC
        self, request: pb.PreviewJobRequest, context: error_mapping.Context
    ) -> pb.PreviewJobResponse:
        """Count the executions that match a filter."""
        del context
        preview = await self._matching.preview(_read_conditions(request.filter))
        return pb.PreviewJobResponse(
            count=preview.count,
            more=preview.more,
            sample=[convert.execution_to_proto(listed(record)) for record in preview.sample],
        )

    @error_mapping.rpc_method
    async def CreateJob(  # noqa: N802 - the name of the RPC
        self, request: pb.CreateJobRequest, context: error_mapping.Context
    ) -> pb.CreateJobResponse:
        """Create a job."""
        del context
        spec = read_spec(request.spec)
        if len(request.request_id) > MAX_REQUEST_ID or not request.request_id.isascii():
            raise InvalidError(
                f"`request_id` must have at most {MAX_REQUEST_ID} ASCII characters", reason="REQUEST_ID_INVALID"
            )
        preview = await self._matching.preview(spec.filter)
        now_ms = self._now_ms()
        created = await self._store.create(
            NewJob(
                id=mint_job_id(now_ms),
                spec=convert_jobs.spec_to_proto(spec).SerializeToString(),
                create_time_ms=now_ms,
                expected=None if preview.more else preview.count,
                request_id=request.request_id,
            )
        )
        self.runner.notify()
        return pb.CreateJobResponse(job=self._job(created))

    @error_mapping.rpc_method
    async def GetJob(  # noqa: N802 - the name of the RPC
        self, request: pb.GetJobRequest, context: error_mapping.Context
    ) -> pb.GetJobResponse:
        """Return a job."""
        del context
        return pb.GetJobResponse(job=self._job(await self._find(request.job_id)))

    @error_mapping.rpc_method
    async def ListJobs(  # noqa: N802 - the name of the RPC
        self, request: pb.ListJobsRequest, context: error_mapping.Context
    ) -> pb.ListJobsResponse:
        """Return a page of jobs, newest first."""
        del context
        size, before = parse_page(request, default=DEFAULT_JOBS)
        found = await self._store.page(before_number=before, limit=size + 1)
        last = found[size - 1].number if len(found) > size else None
        return pb.ListJobsResponse(
            jobs=[self._job(job) for job in found[:size]], next_page_token=page_token_after(last)
        )

    @error_mapping.rpc_method
    async def ListJobItems(  # noqa: N802 - the name of the RPC
        self, request: pb.ListJobItemsRequest, context: error_mapping.Context
    ) -> pb.ListJobItemsResponse:
        """Return a page of outcomes."""
        del context
        size, after = parse_page(request, default=DEFAULT_ITEMS)
        try:
            outcome = convert_jobs.outcome_from_proto(request.outcome)
        except KeyError:
            raise InvalidError(f"there is no outcome {request.outcome}", reason="OUTCOME_INVALID") from None
        job = await self._find(request.job_id)
        found = await self._store.items(job.number, after_number=after or 0, limit=size + 1, outcome=outcome)
        last = found[size - 1].number if len(found) > size else None
        return pb.ListJobItemsResponse(
            items=[convert_jobs.item_to_proto(item) for item in found[:size]], next_page_token=page_token_after(last)
        )

    @error_mapping.rpc_method
    async def PauseJob(  # noqa: N802 - the name of the RPC
        self, request: pb.PauseJobRequest, context: error_mapping.Context
    ) -> pb.PauseJobResponse:
        """Pause a job."""
        del context
        return pb.PauseJobResponse(job=await self._change(request.job_id, JobState.PAUSED))

    @error_mapping.rpc_method
    async def ResumeJob(  # noqa: N802 - the name of the RPC
        self, request: pb.ResumeJobRequest, context: error_mapping.Context
    ) -> pb.ResumeJobResponse:
        """Let a paused job continue."""
        del context
        return pb.ResumeJobResponse(job=await self._change(request.job_id, JobState.PENDING))

    @error_mapping.rpc_method
    async def AbortJob(  # noqa: N802 - the name of the RPC
        self, request: pb.AbortJobRequest, context: error_mapping.Context
    ) -> pb.AbortJobResponse:
        """End a job early."""
        del context
        return pb.AbortJobResponse(job=await self._change(request.job_id, JobState.ABORTED))

    async def _find(self, job_id: str) -> StoredJob:
        job = await self._store.get(job_id)
        if job is None:
            raise NotFoundError(f"there is no job {job_id[:64]}", reason="JOB_NOT_FOUND")
        return job

    async def _change(self, job_id: str, state: JobState) -> pb.Job:
        return self._job(await self.runner.change_state(job_id, state))

    def _job(self, job: StoredJob) -> pb.Job:
        return convert_jobs.job_to_proto(
            Job(
                id=job.id,
                state=job.state,
                spec=load_spec(job.spec),
                expected=job.expected,
                matched=job.matched,
                done=job.done,
                skipped=job.skipped,
                failed=job.failed,
                create_time_ms=job.create_time_ms,
                start_time_ms=job.start_time_ms,
                end_time_ms=job.end_time_ms,
                delay_reason=self.runner.delay_reason(job.id),
            )
        )


def create_job_service(
    *,
    host: ShardRuntime,
    state: ShardState,
    store: JobStore,
    replays: Replays,
    clock: Callable[[], float],
    now_ms: Callable[[], int],
) -> JobService:
    """Return the service, with a runner of jobs on the executions of a shard.

    Args:
        host: performs commands on executions.
        state: the stored executions.
        store: the stored jobs.
        replays: starts replays.
        clock: seconds, monotonic.
        now_ms: Unix time in milliseconds.
    """
    matching = MatchingExecutions(state, host.executions, clock)
    actions = JobActions(commands=host.commands, records=host.executions, state=state, replay=replay_with(replays))
    runner = JobRunner(store=store, matching=matching, actions=actions, load_spec=load_spec, clock=clock, now_ms=now_ms)
    return JobService(store=store, runner=runner, matching=matching, now_ms=now_ms)


def replay_with(replays: Replays) -> Replay:
    """Return a function that starts the replays of jobs."""

    async def replay(execution_id: str, spec: JobSpec, event_id: str) -> str:
        request = ReplayExecutionRequest(
            execution_id=execution_id,
            revision=ReplayExecutionRequest.REVISION_LATEST if spec.latest else ReplayExecutionRequest.REVISION_PINNED,
            start=ReplayExecutionRequest.START_FAILED_TASK
            if spec.from_failed
            else ReplayExecutionRequest.START_BEGINNING,
            unless_replayed=not spec.again,
        )
        return (await replays.start(request, event_id=event_id)).id

    return replay


def load_spec(stored: bytes) -> JobSpec:
    """Return what a job does, as stored by `CreateJob`."""
    return convert_jobs.spec_from_proto(pb.JobSpec.FromString(stored))


def read_spec(message: pb.JobSpec) -> JobSpec:
    """Return what a job is to do, as a request says.

    Raises:
        InvalidError: the filter has no condition (`FILTER_EMPTY`) or an unacceptable one (`FILTER_INVALID`), or another
            field is not acceptable (`JOB_INVALID`).
    """
    _read_conditions(message.filter)
    try:
        spec = convert_jobs.spec_from_proto(message)
    except KeyError:
        raise _invalid(f"`action` must be one of {', '.join(JobAction)}") from None
    if message.revision not in ReplayExecutionRequest.Revision.values():
        raise _invalid("this router does not know the `revision`")
    if message.start not in ReplayExecutionRequest.Start.values():
        raise _invalid("this router does not know the `start`")
    if spec.action is not JobAction.REPLAY and (spec.latest or spec.from_failed or spec.again):
        raise _invalid("`revision`, `start` and `again` are for replays only")
    if message.start == ReplayExecutionRequest.START_TASK:
        raise _invalid("`start` must be START_BEGINNING or START_FAILED_TASK: other tasks are chosen for one execution")
    if not 0 < spec.rate <= MAX_RATE:
        raise _invalid(f"`rate` must be above 0 and at most {MAX_RATE:g} executions per second")
    if len(spec.reason) > MAX_REASON:
        raise _invalid(f"`reason` must have at most {MAX_REASON} characters")
    return spec


def _read_conditions(message: ExecutionFilterPb) -> ExecutionFilter:
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


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, reason="JOB_INVALID")
