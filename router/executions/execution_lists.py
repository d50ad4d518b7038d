"""Lists and counts executions that meet the conditions of a request, and reads their events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from flowhook.errors import InternalError, NotFoundError
from flowhook.model import Execution
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.v1 import envelope_pb2
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from router.calls.paging import MAX_PAGE, PagedRequest, page_token_after, parse_page
from router.dispatch.observers.execution_records import IN_MOTION, ExecutionRecords, meets, stored_conditions
from router.executions.filters import read_filter
from router.flows.admission import AdmissionControl
from router.storage.interface import ShardState
from router.storage.model import ExecutionRecord

DEFAULT_PAGE: Final = 50
MAX_COUNT: Final = 10_000
"""Executions that are counted."""
SCAN_BYTES: Final = 4 * 1024 * 1024
"""Bytes of events in one response of ScanEvents; at least one event is in it."""


class FilteredRequest(PagedRequest, Protocol):
    """A request for a page of executions."""

    @property
    def filter(self) -> pb.ExecutionFilter:
        """Their conditions."""
        ...


class ExecutionLists:
    """Lists of executions."""

    def __init__(self, state: ShardState, records: ExecutionRecords, admission: AdmissionControl) -> None:
        self._state = state
        self._records = records
        self._admission = admission

    async def page(self, request: FilteredRequest) -> tuple[list[ExecutionRecord], str]:
        """Return a page of executions, newest first, and the token of the next one; empty: there is none.

        The page may be short when few of the records read qualify.

        Raises:
            InvalidError: the request is not acceptable.
            NotFoundError: none meets the conditions, and the execution that `caused_by` names is unknown.
            UnavailableError: storage can't serve.
        """
        size, before = parse_page(request, default=DEFAULT_PAGE)
        wanted = read_filter(request.filter)
        # what is stored of these may lag: that an execution was woken or started is stored later or never
        lagging = not IN_MOTION.isdisjoint(wanted.statuses) or (wanted.min_attempts > 0 and not wanted.statuses)
        read = MAX_PAGE if lagging else size
        records, rest = await self._state.list_executions(stored_conditions(wanted), before_seq=before, limit=read)
        page = [record for record in await self._records.current(records) if meets(record, wanted)]
        last = page[size - 1].seq if len(page) > size else rest
        if not page and last is None:
            await self._check_known(wanted)
        return page[:size], page_token_after(last)

    async def count(self, request: pb.CountExecutionsRequest) -> pb.CountExecutionsResponse:
        """Count executions, at most `MAX_COUNT`.

        Raises:
            InvalidError: the request is not acceptable.
            NotFoundError: as for `page`.
            UnavailableError: storage can't serve.
        """
        wanted = read_filter(request.filter)
        count, more = await self._state.count_executions(wanted, limit=MAX_COUNT)
        if not (count or more):
            await self._check_known(wanted)
        return pb.CountExecutionsResponse(count=count, more=more)

    async def _check_known(self, wanted: ExecutionFilter) -> None:
        """Check that the execution exists that `caused_by` names: a misspelled ID looks like one that caused none."""
        if wanted.caused_by and await self._state.find(wanted.caused_by) is None:
            raise NotFoundError(
                f"there is no execution {wanted.caused_by}, and none that it caused", reason="EXECUTION_NOT_FOUND"
            )

    async def with_events(
        self, page: Sequence[tuple[ExecutionRecord, Execution]], next_page_token: str
    ) -> pb.ScanEventsResponse:
        """Return executions with their events, up to `SCAN_BYTES`.

        Args:
            page: executions, newest first, each as stored and as it is shown.
            next_page_token: token of the page after these.

        Raises:
            UnavailableError: storage can't serve.
        """
        payloads = await self._state.payloads([record.seq for record, _ in page], most_bytes=SCAN_BYTES)
        response = pb.ScanEventsResponse(next_page_token=next_page_token)
        flows: dict[str, tuple[bool, bool] | None] = {}
        for record, execution in page:
            if record.seq not in payloads:
                response.next_page_token = response.events[-1].next_page_token
                break
            payload = payloads[record.seq]
            event = None if payload is None else envelope_pb2.Event.FromString(payload)
            if event is not None and event.HasField("body_blob"):
                event = None
            if record.flow_id not in flows:
                flows[record.flow_id] = await self._input_form(record.flow_id)
            has_webhook, raw = flows[record.flow_id] or (event is not None and bool(event.path), False)
            response.events.add(
                execution=convert.execution_to_proto(execution),
                event=event,
                has_webhook=has_webhook,
                raw=raw,
                next_page_token=page_token_after(record.seq),
            )
        return response

    async def _input_form(self, flow_id: str) -> tuple[bool, bool] | None:
        """Return whether the input of a flow describes a request, and whether bodies are unparsed there.

        None: the flow is deleted, or this version can't read it.
        """
        try:
            entry = self._admission.known(flow_id) or await self._admission.flow(flow_id)
        except (NotFoundError, InternalError):
            return None
        return entry.keys.webhook, entry.raw
