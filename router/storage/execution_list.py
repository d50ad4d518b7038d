"""Lists and walks over executions that meet conditions, newest or oldest first, in bounded time.

Some conditions have an index of their own; the others are checked for each execution that is looked at. Therefore a
list is read in windows of sequence numbers, until there are enough executions or the time is over: a part of it may be
short, or empty, although it continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_low
from time import monotonic
from typing import Any, Final, NamedTuple

import apsw
import orjson

from flowhook.model import Status
from flowhook.model.error_types import spellings
from flowhook.model.execution_filter import ALL, ExecutionFilter
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionPage, ExecutionRecord
from router.storage.rows import RECORD, SUPERSEDES, record
from router.storage.schema import CODES, UNENDED

SCAN_SECONDS: Final = 0.5  # time after which a list ends with what was found
COUNT_SECONDS: Final = 0.2  # time after which a count ends
FIRST_WINDOW: Final = 16_384  # sequence numbers in the first window
SHORT_SECONDS: Final = 0.02  # a window that took less is followed by one four times as large
CLOCK_SKEW_MS: Final = 3600 * 1000
"""How much the receive times of executions with neighbouring numbers may differ: senders' clocks are not equal."""
_SAMPLE: Final = 9
"""Executions whose median receive time stands for their place in the log: some senders' clocks are wrong by years."""

FEW: Final = 2048
"""Executions of a flow in a window, below which these are looked at, rather than the unfinished ones of all flows."""
CHOICE_WINDOW: Final = 65_536  # sequence numbers in the largest window for which that is chosen
_SCANNED: Final = "execution e NOT INDEXED"
_BY_FLOW: Final = "execution e INDEXED BY execution_by_flow"
_BY_END: Final = "execution e INDEXED BY execution_by_end"
_OF_FLOW: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM execution INDEXED BY execution_by_flow"
    " WHERE flow = (SELECT key FROM flow_key WHERE flow_id = ?) AND seq >= ? AND seq < ? LIMIT ?)"
)
_UNSUCCESSFUL: Final = frozenset({Status.CANCELLED, Status.FAULTED})
_ERROR: Final = "json_extract(CAST(e.error AS TEXT), '$.{}')"


class Conditions(NamedTuple):
    """Conditions as SQL on `execution e`."""

    tables: str  # what is read, and by which index
    number: str  # the column in whose order it is read: the number of the execution
    terms: list[str]  # conditions that must all hold
    values: list[Any]  # of their parameters
    others: Conditions | None = None  # of further executions, none of which meets these
    flow_id: str = ""  # the flow, if an index of flows may serve as well


def count_executions(
    connection: apsw.Connection, execution_filter: ExecutionFilter = ALL, *, limit: int
) -> tuple[int, bool]:
    """Return how many executions meet all conditions, at most `limit`, and whether there may be more."""
    conditions = as_sql(execution_filter, lagging=False)
    lowest, end = _range(connection, execution_filter, None)
    count = 0
    for low, before in _windows(conditions, lowest, end, COUNT_SECONDS):
        sql, values = _window(connection, conditions, "1", low, before, limit=limit + 1 - count)
        count += connection.execute(f"SELECT count(*) FROM ({sql})", values).get  # noqa: S608
        if count > limit:
            return limit, True
        end = low
    return count, end > lowest


def list_executions(
    connection: apsw.Connection,
    execution_filter: ExecutionFilter = ALL,
    *,
    before_seq: int | None = None,
    limit: int = DEFAULT_PAGE,
) -> ExecutionPage:
    """Return executions that meet all conditions, newest first, at most `limit`."""
    conditions = as_sql(execution_filter)
    lowest, end = _range(connection, execution_filter, before_seq)
    found: list[ExecutionRecord] = []
    for low, before in _windows(conditions, lowest, end, SCAN_SECONDS):
        found += read_window(connection, conditions, low, before, limit + 1 - len(found))
        if len(found) > limit:
            return ExecutionPage(found[:limit], found[limit - 1].seq)
        end = low
    return ExecutionPage(found, end if end > lowest else None)


def _windows(conditions: Conditions, lowest: int, end: int, seconds: float) -> Iterator[tuple[int, int]]:
    """Yield ranges of numbers [low, before) from `end` down to `lowest`, until the time is over; at least one."""
    before = end
    for size in _sizes(conditions, seconds):
        if before <= lowest:
            return
        low = max(lowest, before - size)
        yield low, before
        before = low


def _sizes(conditions: Conditions, seconds: float) -> Iterator[int]:
    """Yield sizes of windows until the time is over, at least one; a quick one is followed by a larger one."""
    deadline = monotonic() + seconds
    size, now, chooses = FIRST_WINDOW, 0.0, bool(conditions.flow_id or (conditions.others or conditions).flow_id)
    while now < deadline:
        began = monotonic()
        yield size
        now = monotonic()
        if now - began < SHORT_SECONDS and not (chooses and size >= CHOICE_WINDOW):
            size *= 4


def read_window(
    connection: apsw.Connection,
    conditions: Conditions,
    low: int,
    before: int,
    limit: int,
    *,
    ascending: bool = False,
) -> list[ExecutionRecord]:
    """Return at most `limit` executions that meet the conditions, with `low` <= sequence number < `before`."""
    sql, values = _window(connection, conditions, RECORD, low, before, limit=limit, ascending=ascending)
    found = [record(row) for row in connection.execute(sql, values)]
    if conditions.others is not None:
        found += read_window(connection, conditions.others, low, before, limit, ascending=ascending)
        found.sort(key=lambda each: each.seq, reverse=not ascending)
    return found[:limit]


def _window(
    connection: apsw.Connection,
    conditions: Conditions,
    columns: str,
    low: int,
    before: int,
    *,
    limit: int,
    ascending: bool = False,
) -> tuple[str, tuple[Any, ...]]:
    """Return a query for columns of executions with numbers in [low, before), and values of its parameters."""
    tables, number = conditions.tables, conditions.number
    if conditions.flow_id and connection.execute(_OF_FLOW, (conditions.flow_id, low, before, FEW)).get < FEW:
        tables = _BY_FLOW
    where = " AND ".join([*conditions.terms, f"{number} >= ?", f"{number} < ?"])
    sql = (
        f"SELECT {columns} FROM {tables} CROSS JOIN flow_key k ON k.key = e.flow"  # noqa: S608
        f" WHERE {where} ORDER BY {number} {'ASC' if ascending else 'DESC'} LIMIT ?"
    )
    return sql, (*conditions.values, low, before, limit)


def as_sql(execution_filter: ExecutionFilter, *, lagging: bool = True) -> Conditions:
    """Return the conditions of a filter as SQL.

    `lagging`: executions that have not ended meet a condition on attempts, whose stored number may be too small.
    """
    statuses = frozenset(execution_filter.statuses)
    if execution_filter.faulted_only:
        statuses = (statuses or _UNSUCCESSFUL) & {Status.FAULTED}
    tables, number, others = _SCANNED, "e.seq", None
    terms: list[str] = []
    values: list[Any] = []
    if execution_filter.flow_id:
        tables = _BY_FLOW
        terms.append("e.flow = (SELECT key FROM flow_key WHERE flow_id = ?)")
        values.append(execution_filter.flow_id)
    if execution_filter.statuses or execution_filter.faulted_only:
        by_status, of_status = _of_status(execution_filter, statuses)
        tables = by_status or tables
        terms += of_status
    if execution_filter.unresolved:
        terms.append(f"NOT EXISTS (SELECT 1 {SUPERSEDES})")
        terms.append("NOT EXISTS (SELECT 1 FROM resolution s WHERE s.seq = e.seq)")
    looked_up = list(_looked_up(execution_filter))
    if execution_filter.min_attempts > 1 and tables in {_SCANNED, _BY_FLOW} and not looked_up:
        others = _unended(execution_filter) if lagging else None
        tables, number = "attempt a CROSS JOIN execution e ON e.seq = a.seq", "a.seq"
        # the last interrupted attempt has at least the number of those that are charged
        terms.append(f"a.number >= {execution_filter.min_attempts - 1}")
        terms.append("a.position = (SELECT max(position) FROM attempt WHERE seq = a.seq)")
        terms.append(f"e.end_time_ms <> {UNENDED}" if lagging else "true")
    for term, value in _checked(execution_filter, lagging=lagging):
        terms.append(term)
        values.append(value)
    for position, (table, index, term, given) in enumerate(looked_up):
        if position:
            terms.append(f"EXISTS (SELECT 1 FROM {table} WHERE seq = e.seq AND {term})")  # noqa: S608
        else:
            tables = f"{table} a INDEXED BY {index} CROSS JOIN execution e ON e.seq = a.seq"
            number = "a.seq"
            terms.append(term)
        values += given
    return Conditions(tables, number, terms, values, others, execution_filter.flow_id if tables == _BY_END else "")


def _of_status(execution_filter: ExecutionFilter, statuses: frozenset[Status]) -> tuple[str, list[str]]:
    """Return which index serves a condition on the status, empty: none does, and the terms."""
    terms = [f"e.status IN ({', '.join(str(CODES[status]) for status in sorted(statuses))})"]
    if not any(status.ended for status in statuses):
        return _BY_END, [*terms, f"e.end_time_ms = {UNENDED}"]
    if _UNSUCCESSFUL.issuperset(statuses):
        index = f"execution_unsuccessful{'_by_flow' if execution_filter.flow_id else ''}"
        # SQLite uses a partial index only if its exact condition is given
        return f"execution e INDEXED BY {index}", [*terms, "e.status IN (6, 7)"]
    return "", terms


def _unended(execution_filter: ExecutionFilter) -> Conditions | None:
    """Return the conditions of a filter, but for that on attempts, on executions that have not ended; None: on none."""
    statuses = tuple(status for status in execution_filter.statuses or Status if not status.ended)
    return as_sql(execution_filter._replace(min_attempts=0, statuses=statuses)) if statuses else None


def _looked_up(execution_filter: ExecutionFilter) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield the conditions that other tables serve: table, index, term on its columns, values of its parameters."""
    if execution_filter.caused_by:
        yield "execution_link", "execution_link_by_cause", "caused_by = ?", (execution_filter.caused_by,)
    for attribute in execution_filter.attributes:
        yield "search_attribute", "search_attribute_by_value", "name = ? AND value = ?", attribute


def _checked(execution_filter: ExecutionFilter, *, lagging: bool) -> list[tuple[str, Any]]:
    """Return the terms that no index serves, each with the value of its parameter."""
    attempts = f"(e.attempts >= ? OR e.end_time_ms = {UNENDED})" if lagging else "e.attempts >= ?"
    type_, given = _ERROR.format("type"), execution_filter.error_type
    last_part = f"substr({type_}, -{len(given) + 1}) = '/' || ?"
    if is_uri := "/" in given or ":" in given:
        given = orjson.dumps(spellings(given)).decode()  # an earlier version stored another one
    candidates = [
        ("e.receive_time_ms >= ?", execution_filter.receive_from_ms),
        ("e.receive_time_ms < ?", execution_filter.receive_until_ms),
        (attempts, execution_filter.min_attempts or None),
        (f"{type_} IN (SELECT value FROM json_each(?))" if is_uri else last_part, given or None),  # noqa: S608 - of constants
        (f"{_ERROR.format('instance')} = ?", execution_filter.error_task),
        (f"{_ERROR.format('status')} = ?", execution_filter.error_status or None),
        (f"{_ERROR.format('title')} = ?", execution_filter.error_title or None),
    ]
    return [(term, value) for term, value in candidates if value is not None]


def _range(connection: apsw.Connection, execution_filter: ExecutionFilter, before_seq: int | None) -> tuple[int, int]:
    """Return the numbers to look at: [lowest, before)."""
    lowest: int | None = connection.execute("SELECT min(seq) FROM execution").get
    if lowest is None:
        return 0, 0
    before: int = connection.execute("SELECT max(seq) FROM execution").get + 1
    if before_seq is not None:
        before = min(before, before_seq)
    if execution_filter.receive_from_ms is not None:
        lowest = _first_received(connection, lowest, before, execution_filter.receive_from_ms - CLOCK_SKEW_MS)
    if execution_filter.receive_until_ms is not None:
        before = _first_received(connection, lowest, before, execution_filter.receive_until_ms + CLOCK_SKEW_MS)
    return lowest, before


def _first_received(connection: apsw.Connection, low: int, high: int, time_ms: int) -> int:
    """Return about the first number in [low, high) of an execution received at a Unix time or later, or `high`."""
    while low < high:
        middle = (low + high) // 2
        rows: list[Any] = connection.execute(
            "SELECT receive_time_ms FROM execution WHERE seq >= ? ORDER BY seq LIMIT ?", (middle, _SAMPLE)
        ).fetchall()
        if rows and median_low(row[0] for row in rows) < time_ms:
            low = middle + 1
        else:
            high = middle
    return low


def walk_executions(
    connection: apsw.Connection,
    execution_filter: ExecutionFilter,
    *,
    after_seq: int = 0,
    last_seq: int | None = None,
    limit: int = DEFAULT_PAGE,
) -> ExecutionPage:
    """Return executions that meet all conditions, oldest first, at most `limit`, with numbers up to `last_seq`."""
    conditions = as_sql(execution_filter)
    lowest: int | None = connection.execute("SELECT min(seq) FROM execution WHERE seq > ?", (after_seq,)).get
    greatest: int | None = connection.execute("SELECT max(seq) FROM execution").get
    if lowest is None or greatest is None:
        return ExecutionPage([], None)
    last = greatest if last_seq is None else min(last_seq, greatest)
    found: list[ExecutionRecord] = []
    after = lowest - 1
    for size in _sizes(conditions, SCAN_SECONDS):
        if after >= last:
            return ExecutionPage(found, None)
        through = min(last, after + size)
        found += read_window(connection, conditions, after + 1, through + 1, limit - len(found), ascending=True)
        if len(found) == limit:
            return ExecutionPage(found, found[-1].seq)
        after = through
    return ExecutionPage(found, after if after < last else None)
