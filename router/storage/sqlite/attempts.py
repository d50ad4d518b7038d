"""Stores interrupted attempts: rows of at most `MAX_ATTEMPTS` for each execution. Reads all attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from flowhook.model.executions import Attempt, AttemptEnd, AttemptHistory
from router.storage.attempts import MAX_ATTEMPTS, AttemptInterrupted, AttemptRefunded
from router.storage.sqlite.rows import load_assignment
from router.storage.sqlite.statements import BatchStatement

# The bare columns are those of the row with the greatest position: https://www.sqlite.org/lang_select.html#bareagg
_LAST: Final = BatchStatement(
    "SELECT seq, max(position), number, reason FROM attempt WHERE seq IN ({rows}) GROUP BY seq", 0
)
_INSERT: Final = BatchStatement(
    "INSERT INTO attempt (seq, position, number, runner, assign_time_ms, end_time_ms, reason, detail, charged)"
    " SELECT * FROM (VALUES {rows})"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended})",
    9,
)
_TRIM: Final = BatchStatement(
    "DELETE FROM attempt WHERE (seq, position) IN (SELECT a.seq, a.position FROM (VALUES {rows})"
    " CROSS JOIN attempt a ON a.seq = column1 AND a.position <= column2)",
    2,
)
_REFUND: Final = BatchStatement(
    "UPDATE attempt SET charged = 0 FROM (VALUES {rows}) WHERE seq = column1 AND position ="
    " (SELECT max(a.position) FROM attempt a WHERE a.seq = column1 AND a.runner = column2 AND a.charged)",
    2,
)


def write_attempts(
    connection: apsw.Connection, interrupted: Sequence[AttemptInterrupted], refunded: Sequence[AttemptRefunded]
) -> None:
    """Store attempts, then the refunds; of each execution the oldest attempts beyond `MAX_ATTEMPTS` are removed."""
    found = _LAST.fetch(connection, [(seq,) for seq in {seq for seq, _ in interrupted}])
    last: dict[int, tuple[int, int, str]] = {seq: (position, number, end) for seq, position, number, end in found}
    rows: list[tuple[Any, ...]] = []
    for seq, attempt in interrupted:
        number, runner, assigned_ms, ended_ms, end, detail, charged = attempt
        before, *earlier = last.get(seq, (0, 0, ""))
        if end is AttemptEnd.ROUTER_RESTARTED and earlier == [number, end]:
            continue
        position = before + 1
        last[seq] = position, number, str(end)
        rows.append((seq, position, number, runner, assigned_ms, ended_ms, end, detail, int(charged)))
    _INSERT.run(connection, rows)
    _TRIM.run(connection, [(seq, each[0] - MAX_ATTEMPTS) for seq, each in last.items() if each[0] > MAX_ATTEMPTS])
    _REFUND.run(connection, list(refunded))


def read_attempts(connection: apsw.Connection, seq: int) -> AttemptHistory:
    """Return the stored attempts of an execution: those that were interrupted, and the one that ended it."""
    rows: list[Any] = connection.execute(
        "SELECT position, number, runner, assign_time_ms, end_time_ms, reason, detail, charged FROM attempt"
        " WHERE seq = ? ORDER BY position",
        (seq,),
    ).fetchall()
    attempts = [
        Attempt(number, runner, assigned_ms, ended_ms, AttemptEnd(end), detail, bool(charged))
        for _, number, runner, assigned_ms, ended_ms, end, detail, charged in rows
    ]
    last: Any = connection.execute(
        "SELECT o.attempt, e.attempts, e.end_time_ms FROM outcome o JOIN execution e USING (seq)"
        " WHERE seq = ? AND o.attempt IS NOT NULL",
        (seq,),
    ).fetchone()
    if last is not None:
        assignment, number, ended_ms = last
        runner, assigned_ms = load_assignment(assignment)
        end = AttemptEnd.EXECUTION_ENDED
        attempts.append(Attempt(number, runner, assigned_ms or None, ended_ms, end, charged=True))
    return AttemptHistory(tuple(attempts), rows[0][0] - 1 if rows else 0)
