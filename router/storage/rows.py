"""Converts between database rows and the types of the storage interface."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import orjson

from flowhook.events.keys import ShapingKeys
from flowhook.model import (
    Correlation,
    EventFilter,
    JournalEntry,
    RaiseOrigin,
    Resolution,
    Retry,
    Subscription,
    WorkflowError,
)
from flowhook.model.executions import LinkKind
from router.storage.model import ExecutionRecord
from router.storage.schema import STATUSES, UNENDED

_LATER = "FROM execution r WHERE r.replay_root = coalesce(e.replay_root, e.event_id) AND r.seq > e.seq"
SUPERSEDES = f"{_LATER} AND r.status <> 6"
"""SQL for later replays of the event of `execution e` that were not cancelled."""
STANDS_FOR = f"{_LATER} AND r.status NOT IN (6, 7)"
"""SQL for later replays of the event of `execution e` that were neither faulted nor cancelled."""

_SUCCESSOR = f"(SELECT r.event_id {STANDS_FOR} ORDER BY r.seq DESC LIMIT 1)"
_REPLAY = "(SELECT r.event_id FROM execution r WHERE r.replay_of = e.event_id ORDER BY r.seq DESC LIMIT 1)"
_RESOLUTION = "(SELECT json_array(s.reason, s.time_ms) FROM resolution s WHERE s.seq = e.seq)"
_RETRY = "CASE e.status WHEN 4 THEN (SELECT w.retry FROM subscription w WHERE w.seq = e.seq) END"
RECORD = (
    "e.seq, e.event_id, k.flow_id, e.flow_revision, e.status, e.attempts, e.receive_time_ms, e.end_time_ms, "
    f"e.error, e.replay_of, e.effect_scope, e.order_key, e.quiet, {_SUCCESSOR}, {_REPLAY}, {_RESOLUTION}, {_RETRY},"
    " e.shaping, e.replay_root"
)
"""Columns for `record`, selected from `execution e` and `flow_key k`."""


ROOTS: Final = (
    "WITH own (id) AS (SELECT coalesce(replay_root, event_id) FROM execution WHERE event_id = ?1),"
    " root (id) AS (SELECT id FROM own UNION SELECT e.shaping ->> 6 FROM own"
    " CROSS JOIN execution e ON e.event_id = own.id WHERE e.shaping ->> 6 <> '')"
)
"""SQL for the events whose executions have the data of one, by an execution of that: it, and the first of its batch."""


# bits of the column `kinds`
LINK_BITS: Final = {LinkKind.RUN: 1, LinkKind.EVENT: 2, LinkKind.LISTEN: 4, LinkKind.ABSORB: 8, LinkKind.BATCH: 16}
STARTS: Final = LINK_BITS[LinkKind.RUN] | LINK_BITS[LinkKind.EVENT]
"""Bits of the links to executions that started others."""


def record(row: tuple[Any, ...]) -> ExecutionRecord:
    """Return the execution of a row with the columns of `RECORD`, in their order."""
    seq, event_id, flow_id, revision, status, attempts, receive_time_ms, end_time_ms, error, replay_of, *rest = row
    scope, key, quiet, successor, replay, resolution, retry, packed, root = rest
    shaping = None if packed is None else ShapingKeys.unpack(packed)
    return ExecutionRecord(
        seq=seq,
        id=event_id,
        flow_id=flow_id,
        flow_revision=revision,
        status=STATUSES[status],
        attempts=attempts,
        receive_time_ms=receive_time_ms,
        end_time_ms=None if end_time_ms == UNENDED else end_time_ms,
        error=load_error(error),
        replay_of=replay_of or "",
        effect_scope=scope or "",
        order_key=key or "",
        quiet=bool(quiet),
        replayed_by=successor or replay or "",
        replayed=successor is not None,
        resolution=None if resolution is None else Resolution(*orjson.loads(resolution)),
        retry=None if retry is None else load_retry(retry),
        batch="" if shaping is None else shaping.batch,
        batch_events=0 if shaping is None or not shaping.batch else shaping.events,
        shaping=shaping,
        replay_root=root or "",
    )


def journal_entry(row: tuple[Any, ...]) -> JournalEntry:
    key, output, error = row
    return JournalEntry(key=key, output=output, error=load_error(error))


def dump_error(error: WorkflowError | None) -> bytes | None:
    return None if error is None else orjson.dumps(_members(error))


def _members(error: WorkflowError) -> dict[str, Any]:
    members = error.as_dict()
    if error.raising is not None:
        members["raising"] = list(error.raising)
    if error.destination:
        members["destination"] = error.destination
    return members


def load_error(stored: bytes | None) -> WorkflowError | None:
    if stored is None:
        return None
    members = orjson.loads(stored)
    raising = members.pop("raising", None)
    error = WorkflowError.from_dict(members)
    return error if raising is None else replace(error, raising=RaiseOrigin(*raising))


def dump_retry(retry: Retry) -> bytes:
    return orjson.dumps([_members(retry.error), *retry[1:]])


def load_retry(stored: bytes) -> Retry:
    error, tries, next_time_ms, others, keys, *rest = orjson.loads(stored)  # earlier versions stored no more
    return Retry(WorkflowError.from_dict(error), tries, next_time_ms, others, tuple(keys), *rest)


def dump_assignment(runner: str, assign_time_ms: int) -> str:
    """Serialise for storage to which runner, and when, an execution was assigned."""
    return f"{assign_time_ms} {runner}"


def load_assignment(stored: str) -> tuple[str, int]:
    """Deserialise a stored assignment: the runner, and the time in Unix ms, 0 if that is unknown."""
    assign_time_ms, _, runner = stored.partition(" ")
    return runner, int(assign_time_ms)


def dump_subscriptions(subscriptions: tuple[Subscription, ...]) -> bytes:
    # named tuples are arrays of their fields; expected values are JSON
    return orjson.dumps(subscriptions, default=lambda each: each.decode() if isinstance(each, bytes) else tuple(each))


def load_subscriptions(stored: bytes | None) -> tuple[Subscription, ...]:
    if stored is None:
        return ()
    return tuple(
        Subscription(key, tuple(_filter(*each) for each in filters), execution_id)
        for key, filters, execution_id in orjson.loads(stored)
    )


def _filter(callback: bool, type_: str, attributes: list[list[str]], correlations: list[list[str]]) -> EventFilter:  # noqa: FBT001 - columns
    return EventFilter(
        callback,
        type_,
        tuple((name, value) for name, value in attributes),
        tuple(Correlation(path, expected.encode()) for path, expected in correlations),
    )


def dedupe_digest(flow_id: str, dedupe_key: str) -> bytes:
    """Return a dedupe key's fingerprint: 16 bytes instead of up to 256.

    A small key matters in an index where each insert touches a different page.
    """
    return hashlib.blake2b(f"{flow_id}\0{dedupe_key}".encode(), digest_size=16).digest()
