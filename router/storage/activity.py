"""Queries about the recent activity of flows: their newest executions, and when each got its last event.

Each function runs in a snapshot, on a reader thread. None takes longer the more executions are stored: each
reads at most `limit` rows, or one for each flow.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final, NamedTuple

import apsw

from flowhook.events import ids
from flowhook.model import Status
from router.storage.rows import STARTS
from router.storage.schema import STATUSES
from router.storage.statements import BatchStatement


class MinuteCount(NamedTuple):
    """Number of a flow's executions that were accepted or ended within a minute."""

    flow_id: str
    minute: int  # Unix time in minutes
    status: Status | None  # with which they ended; None: they were accepted, whether they have ended or not
    number: int


class RecentActivity(NamedTuple):
    """Numbers of executions, complete from a Unix time (ms) on."""

    since_ms: int
    counts: tuple[MinuteCount, ...]


MAX_SECONDS: Final = 5.0  # time that `recent` may take: with a cold cache it may read from many places of the disk
_ACCEPTED = """
SELECT k.flow_id, c.minute, c.number FROM (
  SELECT flow, max(receive_time_ms, ?4) / 60000 AS minute, count(*) AS number FROM execution NOT INDEXED
  WHERE seq > ?1 AND seq <= ?2 AND receive_time_ms >= ?3 GROUP BY 1, 2
) c JOIN flow_key k ON k.key = c.flow
"""
_ENDED = """
SELECT k.flow_id, c.minute, c.status, c.number FROM (
  SELECT flow, end_time_ms / 60000 AS minute, status, count(*) AS number FROM execution INDEXED BY execution_by_end
  WHERE end_time_ms >= ? AND end_time_ms < ? GROUP BY 1, 2, 3
) c JOIN flow_key k ON k.key = c.flow
"""
_REQUESTS: Final = f"""
SELECT event_id, receive_time_ms FROM (
  SELECT * FROM execution INDEXED BY execution_by_flow
  WHERE flow = (SELECT key FROM flow_key WHERE flow_id = ?) ORDER BY seq DESC LIMIT ?
) e WHERE replay_of IS NULL AND quiet IS NULL
  AND NOT EXISTS (SELECT 1 FROM execution_link l WHERE l.seq = e.seq AND l.kinds & {STARTS})
"""  # noqa: S608 - constants
MAX_SCANNED: Final = 10_000  # executions of a flow among which `latest_requests` searches
MAX_OUT_OF_ORDER: Final = 20  # events that are compared
_RECEIVE_TIMES = BatchStatement("SELECT seq, receive_time_ms FROM execution WHERE seq IN ({rows})")


def last_seq(connection: apsw.Connection) -> int:
    last: int = connection.execute("SELECT coalesce(max(seq), 0) FROM execution").get
    return last


def recent(
    connection: apsw.Connection,
    *,
    since_ms: int,
    until_seq: int,
    ended_before_ms: int,
    limit: int,
    counted_seq: int = 0,
) -> RecentActivity:
    """Return how many executions of each flow were accepted, and ended, in each recent minute.

    Args:
        connection: of a reader.
        since_ms: Unix time from which they are wanted.
        until_seq: executions with a greater sequence number are not counted as accepted.
        ended_before_ms: Unix time; executions that ended at it or later are not counted as ended.
        limit: most executions to read, newest first; the result is complete for a shorter time if there are more.
        counted_seq: executions up to this one are not counted as accepted, and all others are, whenever they were
            received; 0: those that were received from `since_ms` on.
    """
    after_seq = max(until_seq - limit, counted_seq)
    if after_seq > counted_seq:
        first: int | None = connection.execute(
            "SELECT receive_time_ms FROM execution WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1",
            (after_seq, until_seq),
        ).get
        since_ms = max(since_ms, first or 0)
    left_out: int | None = connection.execute(
        "SELECT end_time_ms FROM execution INDEXED BY execution_by_end WHERE end_time_ms < ?"
        " ORDER BY end_time_ms DESC LIMIT 1 OFFSET ?",
        (ended_before_ms, limit),
    ).get
    since_ms = max(since_ms, 0 if left_out is None else left_out + 1)
    received_ms = 0 if counted_seq else since_ms
    counts = [
        MinuteCount(flow_id, minute, None, number)
        for flow_id, minute, number in connection.execute(_ACCEPTED, (after_seq, until_seq, received_ms, since_ms))
    ]
    counts += [
        MinuteCount(flow_id, minute, STATUSES[status], number)
        for flow_id, minute, status, number in connection.execute(_ENDED, (since_ms, ended_before_ms))
    ]
    return RecentActivity(since_ms, tuple(counts))


def receive_times(connection: apsw.Connection, seqs: Collection[int]) -> dict[int, int]:
    return dict(_RECEIVE_TIMES.fetch(connection, [(seq,) for seq in seqs]))


def latest_receive_times(connection: apsw.Connection, flow_ids: Collection[str]) -> dict[str, int]:
    """Return when each flow's latest stored execution was received, Unix times in ms.

    Flows without a stored execution are missing.
    """
    query = (
        "SELECT receive_time_ms FROM execution INDEXED BY execution_by_flow"
        " WHERE flow = (SELECT key FROM flow_key WHERE flow_id = ?) ORDER BY seq DESC LIMIT 1"
    )
    found = ((flow_id, connection.execute(query, (flow_id,)).get) for flow_id in flow_ids)
    return {flow_id: received for flow_id, received in found if received is not None}


def latest_requests(connection: apsw.Connection, flow_ids: Collection[str]) -> dict[str, int]:
    """Return when each flow's latest stored event was received that somebody sent, Unix times in ms.

    Left out are replays, and what executions, lifecycle events and schedules started. An operator may accept an event
    of before: of the newest ones the latest counts. Flows without any are missing.
    """
    found = {}
    for flow_id in flow_ids:
        sent = (
            received
            for event_id, received in connection.execute(_REQUESTS, (flow_id, MAX_SCANNED))
            if not ids.is_of_schedule(event_id, flow_id)
        )
        if times := [*islice(sent, MAX_OUT_OF_ORDER)]:
            found[flow_id] = max(times)
    return found
