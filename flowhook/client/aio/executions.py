"""Client methods for past and present executions."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, Final

from flowhook.client.aio.paging import iterate
from flowhook.client.aio.transport import AsyncTransport
from flowhook.client.results import Page
from flowhook.model import Execution, ExecutionDetail, Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import DeletedExecutions, ExecutionChange, ExecutionCount, ScannedExecution
from flowhook.model.replays import AS_RECORDED, ReplayOptions, ReplayPreview
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.wire.mapping import from_proto, to_proto

ERASE_SECONDS: Final = 600.0  # deadline of an erasure


class Executions:
    """Past and present executions. Scope `admin`.

    Where conditions are given, an `InvalidError` says that one is not acceptable (`FILTER_INVALID`), and a
    `NotFoundError` that the execution that `where.caused_by` names is unknown (`EXECUTION_NOT_FOUND`).
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._stream = transport.stream
        self._call = transport.call
        self._stub = ExecutionServiceStub(transport.channel)

    async def get(self, execution_id: str, *, max_body_bytes: int | None = None) -> ExecutionDetail:
        """Return an execution with its event, its journal and its output.

        Of the event's body only the first `max_body_bytes`; None: all of it.

        Raises:
            NotFoundError: the execution is unknown, or past retention.
        """
        request = pb.GetExecutionRequest(execution_id=execution_id, max_body_bytes=max_body_bytes)
        response = await self._call(self._stub.GetExecution, request)
        return from_proto(response, ExecutionDetail)

    def body(self, execution_id: str) -> AsyncIterator[bytes]:
        """Yield the body of the request that started an execution, unchanged, in chunks.

        Raises:
            NotFoundError: the execution is unknown, or past retention.
        """
        request = pb.ReadBodyRequest(execution_id=execution_id)
        return self._stream(self._stub.ReadBody, request, lambda response: response.chunk)

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
        response = await self._call(self._stub.ListExecutions, request)
        return Page([from_proto(each, Execution) for each in response.executions], response.next_page_token)

    async def count(self, where: ExecutionFilter = ALL) -> ExecutionCount:
        """Count executions that meet conditions, up to 10,000."""
        request = pb.CountExecutionsRequest(filter=to_proto(where, pb.ExecutionFilter))
        response = await self._call(self._stub.CountExecutions, request)
        return from_proto(response, ExecutionCount)

    async def scan(
        self, where: ExecutionFilter = ALL, *, page_size: int = 50, page_token: str = ""
    ) -> Page[ScannedExecution]:
        """Return a page of executions with their events, newest first (see `Page`).

        Its events have at most 4 MiB together. `page_token` may also be that of the execution before.
        """
        conditions = to_proto(where, pb.ExecutionFilter)
        request = pb.ScanEventsRequest(filter=conditions, page_size=page_size, page_token=page_token)
        response = await self._call(self._stub.ScanEvents, request)
        return Page([from_proto(each, ScannedExecution) for each in response.events], response.next_page_token)

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
            NotFoundError: the execution is unknown, or past retention; or it did not run the task (`TASK_NOT_FOUND`).
            ConflictError: it has not ended; with `from_failed`: it did not fail, or nothing of it would run anew; with
                `from_task`: its journal before the task is not stored any more (`JOURNAL_COMPACTED`); with
                `unless_replayed`: it is replayed already (`EXECUTION_REPLAYED`), or resolved (`EXECUTION_RESOLVED`).
        """
        request = to_proto(options, pb.ReplayExecutionRequest)
        request.execution_id = execution_id
        request.request_id = request_id or uuid.uuid4().hex
        request.unless_replayed = unless_replayed
        return await self._execution(self._stub.ReplayExecution, request)

    async def preview_replay(self, execution_id: str, options: ReplayOptions = AS_RECORDED) -> ReplayPreview:
        """Return what `replay` would do with the same arguments, and start nothing. Scope `admin` or `view`.

        Raises:
            FlowhookError: as `replay`.
        """
        request = pb.PreviewReplayRequest(replay=to_proto(options, pb.ReplayExecutionRequest))
        request.replay.execution_id = execution_id
        response = await self._call(self._stub.PreviewReplay, request)
        return from_proto(response, ReplayPreview)

    async def resolve(self, execution_id: str, reason: str = "") -> Execution:
        """Mark an execution that faulted or was cancelled as resolved, and return it: it needs no further action.

        A `reason`, of at most 1000 characters, replaces an earlier one.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it did not fail.
        """
        request = pb.ResolveExecutionRequest(execution_id=execution_id, reason=reason)
        return await self._execution(self._stub.ResolveExecution, request)

    async def cancel(self, execution_id: str) -> Execution:
        """Cancel an execution and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it has already ended.
        """
        request = pb.CancelExecutionRequest(execution_id=execution_id)
        return await self._execution(self._stub.CancelExecution, request, repeatable=False)

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
            NotFoundError: the execution is unknown, and not known to have been erased (`EXECUTION_NOT_FOUND`).
            ConflictError: it has not ended (`EXECUTION_NOT_ENDED`), or the execution that started it
                (`PARENT_NOT_ENDED`); unless it is erased: it replays one that failed (`ORIGINAL_STORED`).
        """
        if timeout is None and erase:
            timeout = ERASE_SECONDS
        request = pb.DeleteExecutionRequest(execution_id=execution_id, erase=erase, cancel=cancel)
        response = await self._call(self._stub.DeleteExecution, request, timeout=timeout, repeatable=erase)
        return from_proto(response, DeletedExecutions)

    async def suspend(self, execution_id: str) -> Execution:
        """Suspend an execution until it is resumed, and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it has already ended.
        """
        request = pb.SuspendExecutionRequest(execution_id=execution_id)
        return await self._execution(self._stub.SuspendExecution, request)

    async def resume(self, execution_id: str) -> Execution:
        """Resume a suspended execution and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it is not suspended.
        """
        request = pb.ResumeExecutionRequest(execution_id=execution_id)
        return await self._execution(self._stub.ResumeExecution, request, repeatable=False)

    async def retry_now(self, execution_id: str) -> Execution:
        """Try again at once what failed in an execution that waits for its next try, and return the execution.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it waits for no retry.
        """
        request = pb.RetryExecutionNowRequest(execution_id=execution_id)
        return await self._execution(self._stub.RetryExecutionNow, request, repeatable=False)

    def watch(self, *, flow_id: str = "") -> AsyncIterator[ExecutionChange | None]:
        """Yield executions whenever their status changes; first None, as soon as no further change can be missed.

        Ends with an `UnavailableError` when the connection to the router is lost; watch again then.
        """
        return self._stream(self._stub.WatchExecutions, pb.WatchExecutionsRequest(flow_id=flow_id), _change)

    async def _execution(self, method: Any, request: Any, *, repeatable: bool = True) -> Execution:
        response = await self._call(method, request, repeatable=repeatable)
        return from_proto(response.execution, Execution)


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
