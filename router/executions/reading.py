"""Reads executions: the filters of requests, lists and counts, events, causes and effects, and the history of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import attrs
import orjson

from flowhook import limits
from flowhook.errors import InternalError, InvalidError, NotFoundError
from flowhook.events import ids
from flowhook.events.keys import cut_value
from flowhook.model import Event, Execution, ExecutionDetail, TaskRun, TaskState, held_results
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import ExecutionLinks, LinkedExecution
from flowhook.v1 import envelope_pb2
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from flowhook.wire.event_body import read_event, with_batch
from flowhook.wire.mapping import from_proto, to_proto
from router.calls.paging import MAX_PAGE, page_token_after, parse_page
from router.dispatch.observers import IN_MOTION, ExecutionRecords, meets, stored_conditions
from router.flows.admission import AdmissionControl
from router.storage import limits as storage_limits
from router.storage.model import ExecutionContent, ExecutionRecord
from router.storage.shard_state import ShardState

MAX_BYTES: Final = 64 * limits.KIB  # serialized size of a filter: jobs store theirs
_KNOWN: Final = frozenset(pb.Execution.Status.values()) - {pb.Execution.STATUS_UNSPECIFIED}

DEFAULT_PAGE: Final = 50
MAX_COUNT: Final = 10_000  # executions that are counted
SCAN_BYTES: Final = 4 * 1024 * 1024  # bytes of events in one response of ScanEvents; at least one event is in it
MAX_CAUSED: Final = 20  # caused executions that are returned with an execution; `ListExecutions` has all
MAX_SHOWN: Final = 1000  # tasks shown of one execution: of more, the first half and the last half of this number

# state of a task by the first character of its reported result (`runner.interpreter.history`)
_STATES: Final = {"-": TaskState.SKIPPED, "x": TaskState.CANCELLED, "!": TaskState.FAULTED, ">": TaskState.COMPLETED}
_invalid: Final = partial(InvalidError, reason="FILTER_INVALID")


def read_filter(message: pb.ExecutionFilter) -> ExecutionFilter:
    """Return the conditions of a request.

    Raises:
        InvalidError: one is not acceptable (`FILTER_INVALID`).
    """
    if message.ByteSize() > MAX_BYTES:
        raise _invalid(f"the filter has more than {MAX_BYTES} bytes")
    if not _KNOWN.issuperset(message.statuses):  # taken for another, a job would cancel or delete what it must not
        raise _invalid("`statuses` has one that this router does not know, or STATUS_UNSPECIFIED")
    if len(message.attributes) > limits.MAX_SEARCH_ATTRIBUTES:
        raise _invalid(f"at most {limits.MAX_SEARCH_ATTRIBUTES} `attributes` may be given")
    if any(not attribute.name for attribute in message.attributes):
        raise _invalid("each of `attributes` must have a `name`")
    for name in ("error_status", "min_attempts"):
        if getattr(message, name) < 0:
            raise _invalid(f"`{name}` must not be negative")
    for name in ("receive_from", "receive_until"):
        if not 0 <= getattr(message, name).seconds <= convert.MAX_SECONDS:
            raise _invalid(f"`{name}` must be in the years 1970 to 9999")
    _check_id(message.caused_by)
    wanted = from_proto(message, ExecutionFilter)
    return wanted._replace(attributes=tuple((name, cut_value(value)) for name, value in wanted.attributes))


def _check_id(caused_by: str) -> None:
    try:
        if caused_by:
            ids.decode(caused_by)
    except InvalidError as error:
        raise _invalid(f"`caused_by` must be the ID of an execution: {error.message}") from None


@attrs.define(eq=False, repr=False)
class ExecutionReader:
    """Lists, counts and details of executions."""

    _state: ShardState
    _records: ExecutionRecords
    _admission: AdmissionControl

    async def page(self, request: pb.ListExecutionsRequest | pb.ScanEventsRequest) -> tuple[list[ExecutionRecord], str]:
        """Return a page of executions, newest first, and the token of the next one; empty on the last.

        The page may be short when few of the records read qualify.

        Raises:
            InvalidError: the request is not acceptable.
            NotFoundError: none meets the conditions, and the execution that `caused_by` names is unknown.
        """
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_PAGE)
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
        wanted = read_filter(request.filter)
        count, more = await self._state.count_executions(wanted, limit=MAX_COUNT)
        if not (count or more):
            await self._check_known(wanted)
        return pb.CountExecutionsResponse(count=count, more=more)

    async def _check_known(self, execution_filter: ExecutionFilter) -> None:
        """Check that the execution exists that `caused_by` names: a misspelled ID looks like one that caused none."""
        if execution_filter.caused_by and await self._state.find(execution_filter.caused_by) is None:
            raise NotFoundError(
                f"there is no execution {execution_filter.caused_by}, and none that it caused",
                reason="EXECUTION_NOT_FOUND",
            )

    async def with_events(
        self, page: Sequence[tuple[ExecutionRecord, Execution]], next_page_token: str
    ) -> pb.ScanEventsResponse:
        """Return executions, each as stored and as it is shown, with their events, up to `SCAN_BYTES`."""
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
            has_webhook, raw = flows[record.flow_id] or (event is not None and bool(event.head or event.path), False)
            response.events.add(
                execution=to_proto(execution, pb.Execution),
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

    async def detail(self, execution_id: str, *, max_body_bytes: int | None) -> ExecutionDetail:
        """Return all that is stored of an execution, with at most so much of its event's body (None: all of it)."""
        record = await self._records.find(execution_id)
        attempts = await self._records.attempts(record.seq)
        content = await self._state.content(record.seq, with_payload=max_body_bytes is None)
        if content is None:
            raise past_retention(record.id)
        if record.batch == record.root and max_body_bytes is None:
            others = await self._state.batched([record.seq])
            content = content._replace(payload=with_batch(content.payload, others[record.seq]))
        event, cut_body_size = await self._event(record, content, max_body_bytes)
        return ExecutionDetail(
            execution=record,
            event=event,
            cut_body_size=cut_body_size,
            journal=held_results.split_held(content.journal)[0],
            output=content.output,
            # on another thread: there may be thousands of entries
            history=await asyncio.to_thread(
                build_task_history, await self._state.history(record.seq), ended=record.status.ended
            ),
            attributes=content.attributes,
            attempts=attempts.attempts,
            attempts_left_out=attempts.left_out,
            links=await self.links(record.id),
            latest_revision=self._admission.latest_revision(record.flow_id),
        )

    async def _event(
        self, record: ExecutionRecord, content: ExecutionContent, max_body_bytes: int | None
    ) -> tuple[Event, int | None]:
        if max_body_bytes is None:
            return _read_event(content.payload), None
        part = await self._state.read_payload(record.seq, partial(read_event, max_body_bytes=max_body_bytes))
        if part is None:
            raise past_retention(record.id)
        event = _read_event(part.event)
        return event, part.body_size if part.body_size > len(event.body) else None

    async def links(self, execution_id: str) -> ExecutionLinks:
        found = await self._state.links(execution_id, limit=MAX_CAUSED)
        ids = list({link.id for link in (*found.causes, *found.caused)})
        linked: dict[str, ExecutionRecord] = {}
        for first in range(0, len(ids), storage_limits.DEFAULT_PAGE):
            stored = await self._state.find_by_ids(ids[first : first + storage_limits.DEFAULT_PAGE])
            linked |= {record.id: record for record in await self._records.current(list(stored.values()))}

        def described(link: LinkedExecution) -> LinkedExecution:
            record = linked.get(link.id)
            return link if record is None else link._replace(flow_id=record.flow_id, status=record.status)

        return found._replace(causes=tuple(map(described, found.causes)), caused=tuple(map(described, found.caused)))


def past_retention(execution_id: str) -> NotFoundError:
    return NotFoundError(f"{execution_id} is past retention", reason="EXECUTION_NOT_FOUND")


def _read_event(payload: bytes) -> Event:
    """Return a stored event; one whose head can't be read, for which its execution faulted, without that."""
    message = envelope_pb2.Event.FromString(payload)
    try:
        return convert.event_from_proto(message)
    except InvalidError:
        message.ClearField("head")
        return convert.event_from_proto(message)


def build_task_history(fragments: Iterable[bytes], *, ended: bool) -> tuple[TaskRun, ...]:
    """Return the tasks in the order in which they began; of an execution that has `ended`, those without end cancelled.

    Runners reported the fragments in this order; malformed ones are ignored. An empty fragment stands for omitted ones:
    tasks that had not ended before it are not shown, unless a later fragment reports them.
    """
    runs: dict[int, TaskRun] = {}
    unfinished = TaskState.CANCELLED if ended else TaskState.RUNNING
    for text in fragments:
        if not text:
            runs = {number: run for number, run in runs.items() if run.end_time_ms is not None}
            continue
        for number, task, begin_ms, end_ms, tries, result in read_items(text):
            known = runs.get(number)
            if known is not None and known.end_time_ms is not None:
                continue
            begin_time_ms = (known is not None and known.begin_time_ms) or begin_ms or None
            state = state_of(result) if end_ms else unfinished
            runs[number] = TaskRun(number, task, begin_time_ms, end_ms or None, tries, state, result[1:])
    ordered = [runs[number] for number in sorted(runs)]
    if len(ordered) > MAX_SHOWN:
        ordered[MAX_SHOWN // 2 : -MAX_SHOWN // 2] = []
    return tuple(ordered)


HistoryItem = tuple[int, str, int, int, int, str]
"""A report about a task: number, task, start and end (Unix ms, 0: unknown), tries, result."""


def read_items(text: bytes) -> list[HistoryItem]:
    """Return the reports in a fragment, without malformed ones."""
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return [tuple(each) for each in items if _is_item(each)] if isinstance(items, list) else []


def _is_item(item: Any) -> bool:
    match item:
        case [int(), str(), int(), int(), int(), str()]:
            return True
    return False


def state_of(result: str) -> TaskState:
    return _STATES.get(result[:1], TaskState.COMPLETED)
