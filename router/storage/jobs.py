"""Bulk jobs and the outcomes of their items: values, and the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

import apsw

from flowhook import limits
from flowhook.errors import ConflictError, ExhaustedError, NotFoundError
from flowhook.model import Status
from flowhook.model.jobs import JOB_TRANSITIONS, ItemOutcome, JobItem, JobState, ReplayEnds
from router.storage.limits import DEFAULT_PAGE
from router.storage.part import StoragePart, reading, writing
from router.storage.schema import STATUSES
from router.storage.statements import BEFORE

MAX_JOBS: Final = 1000  # jobs that are stored; the oldest one that has ended makes room for a new one
MAX_ITEMS: Final = 100_000  # items of one job whose outcomes are stored; those of later ones are only counted
MAX_DATA_BYTES: Final = 64 * limits.MIB  # total size of the data of jobs that have not ended


class NewJob(NamedTuple):
    """A job to create."""

    id: str
    spec: bytes  # opaque
    create_time_ms: int
    expected: int | None = None  # executions that match it now; None: unknown
    request_id: str = ""  # creating a job twice with the same one creates it once; empty: no idempotence
    data: bytes = b""  # opaque; what the job needs besides, and may be large: it is removed when the job ends


class StoredJob(NamedTuple):
    """A job as stored."""

    number: int  # ascending in the order of creation
    id: str
    state: JobState
    spec: bytes
    last_seq: int  # of the executions that were accepted before the job was created
    cursor: int  # sequence number of the last execution that it has looked at; 0: none
    expected: int | None
    matched: int
    done: int
    skipped: int
    failed: int
    create_time_ms: int
    start_time_ms: int | None
    end_time_ms: int | None
    request_id: str
    data_bytes: int  # size of its data, whether they are still stored or not


class ClaimedItem(NamedTuple):
    """An execution that a job has reached, and whose outcome is not stored yet."""

    number: int
    seq: int
    execution_id: str
    time_ms: int


_OUTCOMES: Final = {ItemOutcome.PENDING: 1, ItemOutcome.DONE: 2, ItemOutcome.SKIPPED: 3, ItemOutcome.FAILED: 4}
_OUTCOME_OF: Final = {code: outcome for outcome, code in _OUTCOMES.items()}
_JOB: Final = f"SELECT {', '.join(StoredJob._fields)} FROM job WHERE NOT removed AND"  # noqa: S608 - names of columns
_ITEM: Final = (
    "SELECT number, execution_id, outcome, reason, message, new_execution_id, time_ms,"
    " (SELECT e.status FROM execution e WHERE e.event_id = new_execution_id) FROM job_item"
)
COUNT_SECONDS: Final = 0.2  # time after which counting what became of replays ends
_COUNT_WINDOW: Final = 2000  # items that are counted between two looks at the clock


def expire_jobs(connection: apsw.Connection, before_ms: int, limit: int) -> bool:
    """Remove jobs that ended before a Unix time, and at most `limit` of their items; return whether more remains."""
    connection.execute("UPDATE job SET removed = 1 WHERE end_time_ms < ? AND NOT removed", (before_ms,))
    job = connection.execute("SELECT number FROM job WHERE removed LIMIT 1").fetchone()
    if job is None:
        return False
    connection.execute(
        "DELETE FROM job_item WHERE job = ?1 AND number IN (SELECT number FROM job_item WHERE job = ?1 LIMIT ?2)",
        (*job, limit),
    )
    if connection.changes() < limit:
        connection.execute("DELETE FROM job WHERE number = ?", job)
    return True


def _create(connection: apsw.Connection, job: NewJob) -> StoredJob:
    """Create a job, `PENDING`, for executions accepted so far; or return the one with the same `request_id`.

    Raises:
        ExhaustedError: `MAX_JOBS` jobs have not ended, or the data of those that have not are `MAX_DATA_BYTES`
            (`TOO_MANY_JOBS`).
    """
    if job.request_id and (earlier := _jobs(connection, "request_id = ?", job.request_id)):
        return earlier[0]
    stored = connection.execute("SELECT coalesce(sum(length(content)), 0) FROM job_data").get
    if job.data and stored + len(job.data) > MAX_DATA_BYTES:
        raise ExhaustedError(
            f"the bodies and outputs of jobs that have not ended have {stored} bytes, at most {MAX_DATA_BYTES}: abort"
            " one, or wait",
            reason="TOO_MANY_JOBS",
        )
    if connection.execute("SELECT count(*) FROM job WHERE NOT removed").get >= MAX_JOBS:
        connection.execute(
            "UPDATE job SET removed = 1 WHERE number ="
            " (SELECT min(number) FROM job WHERE state IN ('aborted', 'completed') AND NOT removed)"
        )
        if not connection.changes():
            raise ExhaustedError(f"{MAX_JOBS} jobs have not ended: abort one, or wait", reason="TOO_MANY_JOBS")
    connection.execute(
        "INSERT INTO job (id, request_id, state, spec, create_time_ms, expected, data_bytes, last_seq)"
        " VALUES (?, ?, 'pending', ?, ?, ?, ?, coalesce((SELECT max(seq) FROM execution), 0))",
        (job.id, job.request_id, job.spec, job.create_time_ms, job.expected, len(job.data)),
    )
    (created,) = _jobs(connection, "id = ?", job.id)
    if job.data:  # not in its own row, which each batch rewrites and each list reads
        connection.execute("INSERT INTO job_data VALUES (?, ?)", (created.number, job.data))
    return created


def _change_state(connection: apsw.Connection, job_id: str, state: JobState, *, now_ms: int) -> StoredJob:
    """Change the state of a job, and return it; no effect if it is in that state already.

    A job that is paused can't be completed: it is returned as it is.

    Raises:
        NotFoundError: there is no such job (`JOB_NOT_FOUND`).
        ConflictError: it has ended (`JOB_ENDED`).
    """
    job = _get(connection, job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id[:64]}", reason="JOB_NOT_FOUND")
    if job.state is state:
        return job
    new = JOB_TRANSITIONS.get((job.state, state))
    if new is None:
        raise ConflictError(f"{job.id} has ended: it is {job.state}", reason="JOB_ENDED")
    if new is job.state:
        return job
    connection.execute(
        "UPDATE job SET state = ?1, end_time_ms = CASE WHEN ?2 THEN ?3 END,"
        " start_time_ms = CASE WHEN ?1 = 'running' THEN coalesce(start_time_ms, ?3) ELSE start_time_ms END"
        " WHERE number = ?4",
        (str(new), new.ended, now_ms, job.number),
    )
    if new.ended:
        connection.execute("DELETE FROM job_data WHERE job = ?", (job.number,))
    return _jobs(connection, "id = ?", job.id)[0]


def _claim(
    connection: apsw.Connection, job: int, executions: Sequence[tuple[int, str]], *, cursor: int, now_ms: int
) -> list[ClaimedItem] | None:
    """Add items, given as pairs of sequence number and ID, to a job, and move its cursor.

    Returns the items; None: nothing was changed, because the job is not `RUNNING`.
    """
    row = connection.execute(
        "UPDATE job SET cursor = ?, matched = matched + ? WHERE number = ? AND state = 'running' RETURNING matched",
        (cursor, len(executions), job),
    ).fetchone()
    if row is None:
        return None
    first: int = row[0] - len(executions) + 1
    items = [ClaimedItem(number, seq, id_, now_ms) for number, (seq, id_) in enumerate(executions, first)]
    connection.executemany(
        "INSERT INTO job_item (job, number, seq, execution_id, time_ms, outcome) VALUES (?, ?, ?, ?, ?, 1)",
        [(job, *item) for item in items],
    )
    return items


def _settle(connection: apsw.Connection, job: int, items: Sequence[JobItem]) -> None:
    """Store the outcomes of claimed items, and count them. No effect for those that are settled already."""
    counts = dict.fromkeys(ItemOutcome, 0)
    for item in items:
        code = _OUTCOMES[item.outcome]
        key = (job, item.number)
        if item.number > MAX_ITEMS:
            connection.execute("DELETE FROM job_item WHERE job = ? AND number = ? AND outcome = 1", key)
        else:
            connection.execute(
                "UPDATE job_item SET outcome = ?, reason = ?, message = ?, new_execution_id = ?, time_ms = ?"
                " WHERE job = ? AND number = ? AND outcome = 1",
                (code, item.reason, item.message, item.new_execution_id, item.time_ms, *key),
            )
        counts[item.outcome] += connection.changes()
    connection.execute(
        "UPDATE job SET done = done + ?, skipped = skipped + ?, failed = failed + ? WHERE number = ?",
        (counts[ItemOutcome.DONE], counts[ItemOutcome.SKIPPED], counts[ItemOutcome.FAILED], job),
    )


def _release(connection: apsw.Connection, job: int, *, cursor: int) -> None:
    """Withdraw all claims that are not settled, and set the cursor back."""
    connection.execute("DELETE FROM job_item WHERE job = ? AND outcome = 1", (job,))
    connection.execute(
        "UPDATE job SET matched = matched - ?, cursor = ? WHERE number = ?", (connection.changes(), cursor, job)
    )


def _get(connection: apsw.Connection, job_id: str) -> StoredJob | None:
    found = _jobs(connection, "id = ?", job_id)
    return found[0] if found else None


def _jobs(connection: apsw.Connection, condition: str, *values: Any) -> list[StoredJob]:
    rows = connection.execute(f"{_JOB} {condition}", values)
    return [StoredJob(number, id_, JobState(state), *rest) for number, id_, state, *rest in rows]


def _page(
    connection: apsw.Connection, *, before_number: int | None = None, limit: int = DEFAULT_PAGE
) -> list[StoredJob]:
    return _jobs(connection, f"number < {BEFORE} ORDER BY number DESC LIMIT ?", before_number, limit)


def _unended(connection: apsw.Connection) -> list[StoredJob]:
    """Return the jobs that have not ended, and those that ended with unsettled items; oldest first."""
    return _jobs(
        connection,
        "(state NOT IN ('aborted', 'completed') OR number IN (SELECT job FROM job_item WHERE outcome = 1))"
        " ORDER BY number",
    )


def _data(connection: apsw.Connection, job: int) -> bytes:
    return connection.execute("SELECT content FROM job_data WHERE job = ?", (job,)).get or b""


def _claimed(connection: apsw.Connection, job: int) -> list[ClaimedItem]:
    rows = connection.execute(
        "SELECT number, seq, execution_id, time_ms FROM job_item WHERE job = ? AND outcome = 1 ORDER BY number", (job,)
    )
    return [ClaimedItem(*row) for row in rows]


def _items(
    connection: apsw.Connection,
    job: int,
    *,
    after_number: int = 0,
    limit: int = DEFAULT_PAGE,
    outcome: ItemOutcome | None = None,
) -> list[JobItem]:
    condition = "" if outcome is None else f" AND outcome = {_OUTCOMES[outcome]}"
    rows = connection.execute(
        f"{_ITEM} WHERE job = ? AND number > ?{condition} ORDER BY number LIMIT ?", (job, after_number, limit)
    )
    return [
        JobItem(number, execution_id, _OUTCOME_OF[code], reason, message, new_id, time_ms, STATUSES.get(status or 0))
        for number, execution_id, code, reason, message, new_id, time_ms, status in rows
    ]


def _replay_ends(connection: apsw.Connection, job: int, *, started: int) -> ReplayEnds:
    """Return what became of the executions that a job started, given their number; takes bounded time.

    It counts from the newest item on: what has not ended is there.
    """
    counts: Counter[Status] = Counter()
    before = (connection.execute("SELECT max(number) FROM job_item WHERE job = ?", (job,)).get or 0) + 1
    deadline = monotonic() + COUNT_SECONDS
    while before > 1 and monotonic() < deadline:
        low = max(1, before - _COUNT_WINDOW)
        rows = connection.execute(
            "SELECT e.status, count(*) FROM job_item i CROSS JOIN execution e ON e.event_id = i.new_execution_id"
            " WHERE i.job = ? AND i.number >= ? AND i.number < ? AND i.new_execution_id <> '' GROUP BY e.status",
            (job, low, before),
        )
        counts.update({STATUSES[code]: count for code, count in rows})
        before = low
    completed, faulted, cancelled = (
        counts.pop(status, 0) for status in (Status.COMPLETED, Status.FAULTED, Status.CANCELLED)
    )
    unended = counts.total()
    known = completed + faulted + cancelled + unended
    return ReplayEnds(completed, faulted, cancelled, unended, max(0, started - known))


class JobStore(StoragePart):
    """Jobs, each by its number or ID, and the outcomes of their items.

    A job works in batches: it claims items, performs them, and settles their outcomes. So after a crash at any moment
    the items that may have been performed are known: those claimed and not settled.
    """

    get = reading(_get)
    data = reading(_data)
    page = reading(_page)
    unended = reading(_unended)
    claimed = reading(_claimed)
    items = reading(_items)
    replay_ends = reading(_replay_ends)
    create = writing(_create, size=lambda job: len(job.spec) + len(job.data), refusable=True)
    change_state = writing(_change_state)
    claim = writing(_claim, size=lambda _job, executions, **_keywords: 64 * len(executions))
    settle = writing(_settle, size=lambda _job, items: sum(128 + len(item.message) for item in items))
    release = writing(_release)
