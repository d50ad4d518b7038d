"""Lists all requests that arrived: executions, and the log of what did not become one, in one order.

A request that was accepted is an execution, and has no record beside it, unless it was for a callback. Other executions
are left out: replays, and those that schedules, events and executions started.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import islice
from typing import Final

import attrs

from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.rejections import ReceivedRequest, RequestOutcome
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.wire.mapping import enum_from_proto
from router.dispatch.observers import ExecutionRecords
from router.storage.model import ExecutionRecord
from router.storage.rejections import RejectionLog, StoredRejection
from router.storage.shard_state import ShardState

MAX_READS: Final = 10  # pages that are read until one has anything: many executions may be no requests
MAX_DIGITS: Final = 18  # of a number in a page token
_END: Final = "-"  # in a page token: all of one of the two lists was read
_AS_REPORTED: Final = ("callback", "status", "detail", "address", "method", "path", "suppressed")


@attrs.define(eq=False, repr=False)
class ReceivedRequests:
    """Lists requests, newest first."""

    _state: ShardState
    _records: ExecutionRecords
    _rejections: RejectionLog

    async def page(
        self, flow_id: str, outcome: RequestOutcome | None, size: int, token: str
    ) -> tuple[list[ReceivedRequest], str]:
        """Return a page, and the token of the next one; empty on the last. InvalidError: the token is none."""
        found: list[ReceivedRequest] = []
        for _ in range(MAX_READS):
            found, token = await self._read(flow_id, outcome, size, token)
            if found or not token:
                break
        return found, token

    async def _read(
        self, flow_id: str, outcome: RequestOutcome | None, size: int, token: str
    ) -> tuple[list[ReceivedRequest], str]:
        before_seq, _, before_number = token.partition(".")
        at_seq, at_number = _position(before_seq), _position(before_number)
        seq = before_seq if outcome in (None, RequestOutcome.ACCEPTED) else _END
        number = before_number  # of callbacks that were accepted, too
        records: Sequence[ExecutionRecord] = ()
        others: Sequence[StoredRejection] = ()
        if seq != _END:
            stored, rest = await self._state.list_executions(
                ExecutionFilter(flow_id=flow_id), before_seq=at_seq, limit=size
            )
            records = await self._records.current(stored)
            seq = _END if rest is None else str(rest)
        if number != _END:
            others = await self._rejections.page(
                flow_id=flow_id, outcome=outcome or "", before_number=at_number, limit=size
            )
            number = _END if len(others) < size else str(others[-1].number)
        # by time; each of the two stays in its own order
        both = heapq.merge(map(_of_record, records), map(_of_log, others), key=lambda each: -each.time_ms)
        found = list(islice(both, size))
        taken = sum(not each.rejection_id for each in found)
        if taken < len(records):
            seq = str(records[taken - 1].seq) if taken else before_seq
        if (taken_others := len(found) - taken) < len(others):
            number = str(others[taken_others - 1].number) if taken_others else before_number
        caused = await self._state.caused([record.seq for record in records])
        started = {record.id for record in records if _is_no_request(record) or record.seq in caused}
        tested = await self._rejections.tests([record.id for record in records])
        page = [each for each in found if each.rejection_id or each.execution_id not in started | tested]
        return page, "" if seq == number == _END else f"{seq}.{number}"


def _is_no_request(record: ExecutionRecord) -> bool:
    return bool(record.replay_of or record.quiet or ids.is_of_schedule(record.id, record.flow_id))


def _of_record(record: ExecutionRecord) -> ReceivedRequest:
    return ReceivedRequest(
        RequestOutcome.ACCEPTED,
        record.receive_time_ms,
        record.flow_id,
        execution_id=record.id,
        execution_status=record.status,
    )


def _of_log(stored: StoredRejection) -> ReceivedRequest:
    content = pb.Rejection.FromString(stored.content)
    return ReceivedRequest(
        enum_from_proto(content.outcome, RequestOutcome, pb.RequestOutcome),
        stored.time_ms,
        stored.flow_id,
        execution_id=content.execution_id or ("" if content.callback else stored.accepted_id),
        rejection_id=stored.id,
        reason=stored.reason,
        **{name: getattr(content, name) for name in _AS_REPORTED},
    )


def _position(part: str) -> int | None:
    """Return the number in a part of a page token; None: there is none."""
    if part not in ("", _END) and not (part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS):
        raise InvalidError(
            "the page token is invalid: pass `next_page_token` of a response, unchanged", reason="PAGE_TOKEN_INVALID"
        )
    return int(part) if part not in ("", _END) else None
