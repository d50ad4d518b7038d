"""Client methods for past and present executions, and for bulk jobs on them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Final

from flowhook.client.aio.transport import AsyncTransport, iterate
from flowhook.client.values import Page
from flowhook.model import Execution, ExecutionDetail, Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import DeletedExecutions, ExecutionChange, ExecutionCount, ScannedExecution
from flowhook.model.jobs import ItemOutcome, Job, JobItem, JobPreview, JobSpec
from flowhook.model.replays import AS_RECORDED, ReplayOptions, ReplayPreview
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.v1 import job_service_pb2
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.v1.job_service_pb2_grpc import JobServiceStub
from flowhook.wire.mapping import enum_to_proto, from_proto, to_proto

ERASE_SECONDS: Final = 600.0  # deadline of an erasure


class Executions:
    """Past and present executions. Scope `admin`.

    Methods for one execution raise a `NotFoundError` if it is unknown, or past retention. Where conditions are given,
    an `InvalidError` says that one is not acceptable (`FILTER_INVALID`), and a `NotFoundError` that the execution that
    `where.caused_by` names is unknown (`EXECUTION_NOT_FOUND`).
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = ExecutionServiceStub(transport.channel)

    async def get(self, execution_id: str, *, max_body_bytes: int | None = None) -> ExecutionDetail:
        """Return an execution with its event, its journal and its output.

        Of the event's body only the first `max_body_bytes`; None: all of it.
        """
        request = pb.GetExecutionRequest(execution_id=execution_id, max_body_bytes=max_body_bytes)
        return await self._transport.value(self._stub.GetExecution, request, ExecutionDetail)

    def body(self, execution_id: str) -> AsyncIterator[bytes]:
        """Yield the body of the request that started an execution, unchanged, in chunks."""
        request = pb.ReadBodyRequest(execution_id=execution_id)
        return self._transport.stream(self._stub.ReadBody, request, lambda response: response.chunk)

    def list(
        self,
        *,
        flow_id: str = "",
        statuses: Iterable[Status] = (),
        limit: int | None = None,
        unresolved: bool = False,
        where: ExecutionFilter = ALL,
    ) -> AsyncIterator[Execution]:
        """Yield executions that meet all conditions, newest first, at most `limit` of them.

        Args:
            flow_id: only executions of this flow; empty: of any.
            statuses: only executions in one of these statuses; empty: in any.
            limit: how many executions to yield at most.
            unresolved: only executions that faulted, have no resolution and are not superseded by a replay; of an
                execution and its replays that all faulted, only the last.
            where: further conditions; arguments from above take the place of those that it has of the same name.
        """
        conditions = _conditions(where, flow_id, statuses, unresolved=unresolved)
        return iterate(partial(self.page, where=conditions), limit)

    async def page(
        self,
        *,
        flow_id: str = "",
        statuses: Iterable[Status] = (),
        unresolved: bool = False,
        where: ExecutionFilter = ALL,
        page_size: int = 50,
        page_token: str = "",
    ) -> Page[Execution]:
        """Return a page of what `list` yields with the same conditions (see `Page`)."""
        conditions = to_proto(_conditions(where, flow_id, statuses, unresolved=unresolved), pb.ExecutionFilter)
        request = pb.ListExecutionsRequest(page_size=page_size, page_token=page_token, filter=conditions)
        return await self._transport.page(self._stub.ListExecutions, request, Execution)

    async def count(self, where: ExecutionFilter = ALL) -> ExecutionCount:
        """Count executions that meet conditions, up to 10,000."""
        request = pb.CountExecutionsRequest(filter=to_proto(where, pb.ExecutionFilter))
        return await self._transport.value(self._stub.CountExecutions, request, ExecutionCount)

    async def scan(
        self, where: ExecutionFilter = ALL, *, page_size: int = 50, page_token: str = ""
    ) -> Page[ScannedExecution]:
        """Return a page of executions with their events, newest first (see `Page`).

        Its events have at most 4 MiB together. `page_token` may also be that of the execution before.
        """
        conditions = to_proto(where, pb.ExecutionFilter)
        request = pb.ScanEventsRequest(filter=conditions, page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ScanEvents, request, ScannedExecution)

    async def replay(
        self,
        execution_id: str,
        options: ReplayOptions = AS_RECORDED,
        *,
        request_id: str = "",
        unless_replayed: bool = False,
    ) -> Execution:
        """Start a new execution from the stored event of one that ended, and return it.

        Args:
            execution_id: ID of the execution to replay.
            options: on which revision, from where, and with what input.
            request_id: idempotency key: calls with the same one start one execution; at most 64 ASCII characters.
                Generated when absent, so that a call that is retried starts one execution.
            unless_replayed: refuse an execution that is `replayed`, or has a resolution.

        Raises:
            InvalidError: the options do not go together, or `output` or `body` is not acceptable.
            NotFoundError: it did not run the task (`TASK_NOT_FOUND`).
            ConflictError: it has not ended; with `from_failed`: it did not fail, or nothing of it would run anew; with
                `from_task`: its journal before the task is not stored any more (`JOURNAL_COMPACTED`); with
                `unless_replayed`: it is replayed already (`EXECUTION_REPLAYED`), or resolved (`EXECUTION_RESOLVED`).
        """
        request = to_proto(options, pb.ReplayExecutionRequest)
        request.execution_id = execution_id
        request.request_id = request_id or uuid.uuid4().hex
        request.unless_replayed = unless_replayed
        return await self._transport.item(self._stub.ReplayExecution, request, Execution)

    async def preview_replay(self, execution_id: str, options: ReplayOptions = AS_RECORDED) -> ReplayPreview:
        """Return what `replay` would do with the same arguments, or raise as it does. Scope `admin` or `view`."""
        request = pb.PreviewReplayRequest(replay=to_proto(options, pb.ReplayExecutionRequest))
        request.replay.execution_id = execution_id
        return await self._transport.value(self._stub.PreviewReplay, request, ReplayPreview)

    async def resolve(self, execution_id: str, reason: str = "") -> Execution:
        """Mark an execution that faulted or was cancelled as resolved, and return it: it needs no further action.

        A `reason`, of at most 1000 characters, replaces an earlier one. Raises ConflictError: it did not fail.
        """
        request = pb.ResolveExecutionRequest(execution_id=execution_id, reason=reason)
        return await self._transport.item(self._stub.ResolveExecution, request, Execution)

    async def cancel(self, execution_id: str) -> Execution:
        """Cancel an execution and return it; raises ConflictError: it has already ended."""
        request = pb.CancelExecutionRequest(execution_id=execution_id)
        return await self._transport.item(self._stub.CancelExecution, request, Execution, repeatable=False)

    async def delete(
        self,
        execution_id: str,
        *,
        erase: bool = False,
        cancel: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of the call
    ) -> DeletedExecutions:
        """Delete an execution that has ended, or erase its event.

        Args:
            execution_id: ID of the execution.
            erase: erase its event, for good: the execution, the one that it replays, all replays of the same event,
                what refers to them, and what is left of them in free space of files. Idempotent.
            cancel: cancel those that have not ended before.
            timeout: seconds; None: that of the client, or ten minutes if it erases, because that takes longer the
                larger the database is. Erasing goes on after that: repeat the call.

        Raises:
            NotFoundError: it is unknown, and not known to have been erased (`EXECUTION_NOT_FOUND`).
            ConflictError: it has not ended (`EXECUTION_NOT_ENDED`), or the execution that started it
                (`PARENT_NOT_ENDED`); unless it is erased: it replays one that failed (`ORIGINAL_STORED`).
        """
        if timeout is None and erase:
            timeout = ERASE_SECONDS
        request = pb.DeleteExecutionRequest(execution_id=execution_id, erase=erase, cancel=cancel)
        response = await self._transport.call(self._stub.DeleteExecution, request, timeout=timeout, repeatable=erase)
        return from_proto(response, DeletedExecutions)

    async def suspend(self, execution_id: str) -> Execution:
        """Suspend an execution until it is resumed, and return it; raises ConflictError: it has already ended."""
        request = pb.SuspendExecutionRequest(execution_id=execution_id)
        return await self._transport.item(self._stub.SuspendExecution, request, Execution)

    async def resume(self, execution_id: str) -> Execution:
        """Resume a suspended execution and return it; raises ConflictError: it is not suspended."""
        request = pb.ResumeExecutionRequest(execution_id=execution_id)
        return await self._transport.item(self._stub.ResumeExecution, request, Execution, repeatable=False)

    async def retry_now(self, execution_id: str) -> Execution:
        """Try again at once what failed in an execution that waits for its next try, and return the execution.

        Raises ConflictError: it waits for no retry.
        """
        request = pb.RetryExecutionNowRequest(execution_id=execution_id)
        return await self._transport.item(self._stub.RetryExecutionNow, request, Execution, repeatable=False)

    def watch(self, *, flow_id: str = "") -> AsyncIterator[ExecutionChange | None]:
        """Yield executions whenever their status changes; first None, as soon as no further change can be missed.

        Ends with an `UnavailableError` when the connection to the router is lost; watch again then.
        """
        return self._transport.stream(self._stub.WatchExecutions, pb.WatchExecutionsRequest(flow_id=flow_id), _change)


def _conditions(
    where: ExecutionFilter, flow_id: str, statuses: Iterable[Status], *, unresolved: bool
) -> ExecutionFilter:
    return where._replace(
        flow_id=flow_id or where.flow_id,
        statuses=tuple(statuses) or where.statuses,
        unresolved=unresolved or where.unresolved,
    )


def _change(response: pb.WatchExecutionsResponse) -> ExecutionChange | None:
    # the first message, which signals that the stream is open, has no execution
    return from_proto(response, ExecutionChange) if response.HasField("execution") else None


class Jobs:
    """Bulk jobs: one action on all executions that match a filter, performed by the router. Scope `admin`.

    Methods for one job raise a `NotFoundError` if it is unknown, or past retention.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
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
        request = job_service_pb2.PreviewJobRequest(
            filter=to_proto(where, pb.ExecutionFilter),
            replay=None if replay is None else to_proto(replay, pb.ReplayExecutionRequest),
            again=again,
        )
        return await self._transport.value(self._stub.PreviewJob, request, JobPreview)

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
        request = job_service_pb2.CreateJobRequest(spec=to_proto(spec, job_service_pb2.JobSpec), request_id=request_id)
        return await self._transport.item(self._stub.CreateJob, request, Job)

    async def get(self, job_id: str) -> Job:
        """Return a job."""
        return await self._transport.item(self._stub.GetJob, job_service_pb2.GetJobRequest(job_id=job_id), Job)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Job]:
        """Yield jobs, newest first, at most `limit` of them."""
        return iterate(self.page, limit)

    async def page(self, *, page_size: int = 50, page_token: str = "") -> Page[Job]:
        """Return a page of what `list` yields (see `Page`)."""
        request = job_service_pb2.ListJobsRequest(page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ListJobs, request, Job)

    def items(
        self, job_id: str, *, outcome: ItemOutcome | None = None, limit: int | None = None
    ) -> AsyncIterator[JobItem]:
        """Yield the outcomes of a job's executions in the order in which it took them, at most `limit` of them.

        With `outcome`, only those.
        """
        return iterate(partial(self.item_page, job_id, outcome=outcome), limit)

    async def item_page(
        self, job_id: str, *, outcome: ItemOutcome | None = None, page_size: int = 100, page_token: str = ""
    ) -> Page[JobItem]:
        """Return a page of what `items` yields (see `Page`)."""
        value = enum_to_proto(outcome, job_service_pb2.JobItem.Outcome)
        request = job_service_pb2.ListJobItemsRequest(
            job_id=job_id, outcome=value, page_size=page_size, page_token=page_token
        )
        return await self._transport.page(self._stub.ListJobItems, request, JobItem)

    async def pause(self, job_id: str) -> Job:
        """Pause a job within a second, and return it; raises ConflictError: it has ended."""
        return await self._transport.item(self._stub.PauseJob, job_service_pb2.PauseJobRequest(job_id=job_id), Job)

    async def resume(self, job_id: str) -> Job:
        """Let a paused job continue, and return it; raises ConflictError: it has ended."""
        return await self._transport.item(self._stub.ResumeJob, job_service_pb2.ResumeJobRequest(job_id=job_id), Job)

    async def abort(self, job_id: str) -> Job:
        """End a job early, within a second, and return it; raises ConflictError: it is completed.

        What it did stays done.
        """
        return await self._transport.item(self._stub.AbortJob, job_service_pb2.AbortJobRequest(job_id=job_id), Job)
