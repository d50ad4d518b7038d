"""Client methods for bulk jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from flowhook.client.aio.paging import iterate
from flowhook.client.aio.transport import AsyncTransport
from flowhook.client.results import Page
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import ItemOutcome, Job, JobItem, JobPreview, JobSpec
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import execution_service_pb2
from flowhook.v1 import job_service_pb2 as pb
from flowhook.v1.job_service_pb2_grpc import JobServiceStub
from flowhook.wire.mapping import enum_to_proto, from_proto, to_proto


class Jobs:
    """Bulk jobs: one action on all executions that match a filter, performed by the router. Scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = JobServiceStub(transport.channel)

    async def preview(
        self, where: ExecutionFilter, *, replay: ReplayOptions | None = None, again: bool = False
    ) -> JobPreview:
        """Return how many executions match a filter now, and the oldest of them.

        Args:
            where: conditions that they meet.
            replay: how a job would replay them: also return what the replays of the oldest would do.
            again: as `JobSpec.again`.

        Raises:
            InvalidError: the filter has no condition (`FILTER_EMPTY`), or an unacceptable one (`FILTER_INVALID`), or
                nothing can be replayed in this way.
        """
        request = pb.PreviewJobRequest(
            filter=to_proto(where, execution_service_pb2.ExecutionFilter),
            replay=None if replay is None else to_proto(replay, execution_service_pb2.ReplayExecutionRequest),
            again=again,
        )
        response = await self._call(self._stub.PreviewJob, request)
        return from_proto(response, JobPreview)

    async def create(self, spec: JobSpec, *, request_id: str = "") -> Job:
        """Create a job, which begins as soon as it is its turn, and return it.

        Args:
            spec: what it does.
            request_id: idempotency key: calls with the same one create one job; at most 64 ASCII characters. Generated
                when absent, so that a call that is retried creates one job.

        Raises:
            InvalidError: the filter has no condition (`FILTER_EMPTY`), or something else is not acceptable.
            ExhaustedError: 1000 jobs have not ended, or those that have not contain too much.
        """
        request_id = request_id or uuid.uuid4().hex
        request = pb.CreateJobRequest(spec=to_proto(spec, pb.JobSpec), request_id=request_id)
        return await self._job(self._stub.CreateJob, request)

    async def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: the job is unknown, or past retention.
        """
        return await self._job(self._stub.GetJob, pb.GetJobRequest(job_id=job_id))

    def list(self, *, limit: int | None = None) -> AsyncIterator[Job]:
        """Yield jobs, newest first, at most `limit` of them."""
        return iterate(self.page, limit)

    async def page(self, *, page_size: int = 50, page_token: str = "") -> Page[Job]:
        """Return a page of what `list` yields (see `Page`)."""
        response = await self._call(self._stub.ListJobs, pb.ListJobsRequest(page_size=page_size, page_token=page_token))
        return Page([from_proto(each, Job) for each in response.jobs], response.next_page_token)

    def items(
        self, job_id: str, *, outcome: ItemOutcome | None = None, limit: int | None = None
    ) -> AsyncIterator[JobItem]:
        """Yield the outcomes of a job's executions in the order in which it took them, at most `limit` of them.

        With `outcome`, only those.

        Raises:
            NotFoundError: the job is unknown, or past retention.
        """
        return iterate(partial(self.item_page, job_id, outcome=outcome), limit)

    async def item_page(
        self, job_id: str, *, outcome: ItemOutcome | None = None, page_size: int = 100, page_token: str = ""
    ) -> Page[JobItem]:
        """Return a page of what `items` yields (see `Page`), with the same errors."""
        request = pb.ListJobItemsRequest(
            job_id=job_id,
            outcome=enum_to_proto(outcome, pb.JobItem.Outcome),
            page_size=page_size,
            page_token=page_token,
        )
        response = await self._call(self._stub.ListJobItems, request)
        return Page([from_proto(each, JobItem) for each in response.items], response.next_page_token)

    async def pause(self, job_id: str) -> Job:
        """Pause a job within a second, and return it.

        Raises:
            NotFoundError: the job is unknown, or past retention.
            ConflictError: it has ended.
        """
        return await self._job(self._stub.PauseJob, pb.PauseJobRequest(job_id=job_id))

    async def resume(self, job_id: str) -> Job:
        """Let a paused job continue, and return it.

        Raises:
            NotFoundError: the job is unknown, or past retention.
            ConflictError: it has ended.
        """
        return await self._job(self._stub.ResumeJob, pb.ResumeJobRequest(job_id=job_id))

    async def abort(self, job_id: str) -> Job:
        """End a job early, within a second, and return it; what it did stays done.

        Raises:
            NotFoundError: the job is unknown, or past retention.
            ConflictError: it is completed.
        """
        return await self._job(self._stub.AbortJob, pb.AbortJobRequest(job_id=job_id))

    async def _job(self, method: Any, request: Any) -> Job:
        response = await self._call(method, request)
        return from_proto(response.job, Job)
