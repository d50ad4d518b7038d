"""Walks over executions that meet conditions, oldest first, in bounded time."""

from __future__ import annotations

from time import monotonic

import apsw

from flowhook.model.execution_filter import ExecutionFilter
from router.storage.jobs import ExecutionWalk
from router.storage.model import ExecutionRecord
from router.storage.sqlite.execution_list import FIRST_WINDOW, SCAN_SECONDS, SHORT_SECONDS, Conditions, as_sql
from router.storage.sqlite.rows import RECORD, record


def walk_executions(
    connection: apsw.Connection, wanted: ExecutionFilter, after_seq: int, last_seq: int | None, limit: int
) -> ExecutionWalk:
    """Return executions that meet all conditions, oldest first; see `interface.ShardState`."""
    conditions = as_sql(wanted)
    lowest: int | None = connection.execute("SELECT min(seq) FROM execution WHERE seq > ?", (after_seq,)).get
    greatest: int | None = connection.execute("SELECT max(seq) FROM execution").get
    if lowest is None or greatest is None:
        return ExecutionWalk([], None)
    last = greatest if last_seq is None else min(last_seq, greatest)
    deadline = monotonic() + SCAN_SECONDS
    found: list[ExecutionRecord] = []
    after, window = lowest - 1, FIRST_WINDOW
    while after < last:
        began = monotonic()
        through = min(last, after + window)
        found += _read_window(connection, conditions, after, through, limit - len(found))
        if len(found) == limit:
            return ExecutionWalk(found, found[-1].seq)
        after, now = through, monotonic()
        if now > deadline and after < last:
            return ExecutionWalk(found, after)
        if now - began < SHORT_SECONDS:
            window *= 4
    return ExecutionWalk(found, None)


def _read_window(
    connection: apsw.Connection, conditions: Conditions, after: int, through: int, limit: int
) -> list[ExecutionRecord]:
    """Return executions with numbers in (after, through] that meet conditions, oldest first."""
    number = conditions.number
    where = " AND ".join([*conditions.terms, f"{number} > ?", f"{number} <= ?"])
    rows = connection.execute(
        f"SELECT {RECORD} FROM {conditions.tables} CROSS JOIN flow_key k ON k.key = e.flow"  # noqa: S608
        f" WHERE {where} ORDER BY {number} LIMIT ?",
        (*conditions.values, after, through, limit),
    )
    return [record(row) for row in rows]
