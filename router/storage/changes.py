"""Applies the state changes of a transaction, merged by execution and batched by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
from typing_extensions import override

from flowhook.model import Status
from flowhook.model.executions import AttemptEnd, LinkKind
from router.storage import model as stored
from router.storage.rows import LINK_BITS, dump_assignment, dump_error, dump_retry, dump_subscriptions
from router.storage.schema import CODES, PENDING, WAITING
from router.storage.statements import BatchStatement, read_counter, write_counter
from router.storage.writer import WriterOperation

# The bare columns are those of the row with the greatest position: https://www.sqlite.org/lang_select.html#bareagg
_LAST_ATTEMPTS: Final = BatchStatement(
    "SELECT seq, max(position), number, reason FROM attempt WHERE seq IN ({rows}) GROUP BY seq"
)
_INSERT_ATTEMPT: Final = BatchStatement.insert(
    "attempt",
    "seq, position, number, runner, assign_time_ms, end_time_ms, reason, detail, charged",
    where="{of_unended}",
)
_TRIM_ATTEMPTS: Final = BatchStatement(
    "DELETE FROM attempt WHERE (seq, position) IN (SELECT a.seq, a.position FROM (VALUES {rows})"
    " CROSS JOIN attempt a ON a.seq = column1 AND a.position <= column2)",
    2,
)
_REFUND_ATTEMPT: Final = BatchStatement(
    "UPDATE attempt SET charged = 0 FROM (VALUES {rows}) WHERE seq = column1 AND position ="
    " (SELECT max(a.position) FROM attempt a WHERE a.seq = column1 AND a.runner = column2 AND a.charged)",
    2,
)


def write_attempts(
    connection: apsw.Connection,
    interrupted: Sequence[stored.AttemptInterrupted],
    refunded: Sequence[stored.AttemptRefunded],
) -> None:
    """Store attempts, then the refunds; of each execution the oldest attempts beyond `MAX_ATTEMPTS` are removed."""
    found = _LAST_ATTEMPTS.fetch(connection, [(seq,) for seq in {seq for seq, _ in interrupted}])
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
    _INSERT_ATTEMPT.run(connection, rows)
    _TRIM_ATTEMPTS.run(
        connection,
        [(seq, each[0] - stored.MAX_ATTEMPTS) for seq, each in last.items() if each[0] > stored.MAX_ATTEMPTS],
    )
    _REFUND_ATTEMPT.run(connection, list(refunded))


_INSERT_EMITTERS = BatchStatement(
    "INSERT INTO execution_link (seq, caused_by, kinds) SELECT column1, a.emitter, 4 FROM (VALUES {rows})"
    " CROSS JOIN inbound_event a ON a.number = column2 WHERE a.emitter NOT NULL"
    " AND {of_unended} ON CONFLICT (seq, caused_by) DO UPDATE SET kinds = kinds | excluded.kinds",
    2,
)
# IDs sort by time, so the newest emitters are the last ones.
_TRIM_EMITTERS = BatchStatement(
    "DELETE FROM execution_link WHERE (seq, caused_by) IN (SELECT c.seq, c.caused_by FROM (VALUES {rows})"
    " CROSS JOIN execution_link c ON c.seq = column1 WHERE c.kinds = 4 AND c.caused_by <"
    " (SELECT b.caused_by FROM execution_link b WHERE b.seq = column1 ORDER BY b.caused_by DESC"
    " LIMIT 1 OFFSET {emitters} - 1))",
    1,
)


def insert_emitters(connection: apsw.Connection, received: Sequence[tuple[int, int]]) -> None:
    """Insert the emitters of events that are still stored as causes of executions, by number, that received them."""
    _INSERT_EMITTERS.run(connection, received)
    _TRIM_EMITTERS.run(connection, list({(seq,) for seq, _ in received}))


COUNTER: Final = "lifecycle_event"  # name of the counter for numbers of lifecycle events
_INSERT_JOURNAL = BatchStatement.insert(
    "journal", "seq, position, key, output, error, history", "ON CONFLICT DO NOTHING", where="{of_unended}"
)
_UPDATE_PROGRESS = BatchStatement(
    "UPDATE execution SET status = column2, attempts = column3, term = max(term, column4) FROM (VALUES {rows})"
    " WHERE seq = column1 AND end_time_ms = {unended}",
    4,
)
_UPDATE_PARKED = BatchStatement(
    "UPDATE execution SET status = column2, attempts = column3, wake_time_ms = column4,"
    " term = max(term, column5) FROM (VALUES {rows}) WHERE seq = column1 AND end_time_ms = {unended}",
    5,
)
COMPACT_JOURNAL = BatchStatement(
    "DELETE FROM journal WHERE (seq, position) IN"
    " (SELECT j.seq, j.position FROM (VALUES {rows}) CROSS JOIN journal j ON j.seq = column1 AND j.position < column2"
    " WHERE {of_unended})",
    2,
)
_KEEP_HISTORY = BatchStatement(
    "INSERT INTO history (seq, place, content) SELECT j.seq, j.position * 2 + 1, j.history FROM (VALUES {rows})"
    " CROSS JOIN journal j ON j.seq = column1 AND j.position < column2 WHERE j.history IS NOT NULL"
    " AND {of_unended} ON CONFLICT DO NOTHING",
    2,
)
_TRIM_HISTORY = BatchStatement(
    "DELETE FROM history WHERE (seq, place) IN (SELECT h.seq, h.place FROM (VALUES {rows})"
    " CROSS JOIN history h ON h.seq = column1 AND h.place < (column2 - {histories}) * 2)",
    2,
)
_INSERT_HISTORY = BatchStatement(
    "INSERT INTO history (seq, place, content) SELECT column1,"
    " (SELECT coalesce(max(position), -1) + 1 FROM journal WHERE seq = column1) * 2, column2 FROM (VALUES {rows})"
    " WHERE {of_unended} ON CONFLICT DO NOTHING",
    2,
)
_INSERT_REPLY = BatchStatement.insert("outcome", "seq, reply", "ON CONFLICT DO NOTHING", where="{of_unended}")
_INSERT_OUTCOME = BatchStatement.insert(
    "outcome",
    "seq, output, reply, history, attempt",
    "ON CONFLICT (seq) DO UPDATE SET output = excluded.output, reply = coalesce(reply, excluded.reply),"
    " history = excluded.history, attempt = excluded.attempt",
    where="{of_unended}",
)
_UPDATE_ENDED = BatchStatement(
    "UPDATE execution SET status = column2, attempts = column3, end_time_ms = column4, error = column5"
    " FROM (VALUES {rows}) WHERE seq = column1 AND +end_time_ms = {unended}",
    5,
)
# Runs before all other statements, as its conditions test the state from before the transaction's changes.
_INSERT_LIFECYCLE = BatchStatement(
    "INSERT INTO lifecycle_event (seq, type, time_ms, key, data, number)"
    " SELECT column1, column2, column3, column5, column6, column7 FROM (VALUES {rows})"
    " WHERE EXISTS (SELECT 1 FROM execution WHERE seq = column1 AND end_time_ms = {unended} AND quiet IS NULL"
    " AND (NOT column4 OR (attempts = 0 AND term = 0)))",
    7,
)
_DELETE_LIFECYCLE = BatchStatement("DELETE FROM lifecycle_event WHERE number IN ({rows})")
_LAST_INDEX = BatchStatement("SELECT seq, max(position) FROM journal WHERE seq IN ({rows}) GROUP BY seq")
_UPSERT_SUBSCRIPTIONS = BatchStatement.insert(
    "subscription",
    "seq, content, retry, destinations",
    "ON CONFLICT (seq) DO UPDATE SET content = excluded.content, retry = excluded.retry,"
    " destinations = excluded.destinations",
    where="{of_unended}",
)
_DELETE_SUBSCRIPTIONS = BatchStatement("DELETE FROM subscription WHERE seq IN ({rows})")
_NOTHING: Final = (None, None, None)  # an execution waits for nothing but a time
_DELETE_INBOUND = BatchStatement("DELETE FROM inbound_event WHERE number IN ({rows})")
_UPSERT_SCHEDULE = BatchStatement.insert(
    "schedule",
    "flow_id, due_ms, last_ms",
    "ON CONFLICT (flow_id) DO UPDATE SET due_ms = excluded.due_ms, last_ms = excluded.last_ms",
)
_UPSERT_RATE = BatchStatement.insert(
    "rate_line",
    "line, until_ms",
    "ON CONFLICT (line) DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)",
)
# Of executions that have ended, too: one that was cancelled while its group was being stored stands for the others.
_LEAVE_GROUP = BatchStatement(
    "UPDATE execution SET shaping = json_set(shaping, '$[3]', '', '$[4]', 0, '$[5]', column3,"
    " '$[6]', coalesce((SELECT b.event_id FROM execution b WHERE b.seq = column2), ''))"
    " FROM (VALUES {rows}) WHERE seq = column1",
    3,
)
_INSERT_ABSORBED = BatchStatement(
    "INSERT INTO execution_link (seq, caused_by, kinds) SELECT e.seq, a.event_id, column3 FROM (VALUES {rows})"
    " CROSS JOIN execution e ON e.seq = column1 CROSS JOIN execution a ON a.seq = column2 WHERE true"
    " ON CONFLICT (seq, caused_by) DO UPDATE SET kinds = kinds | excluded.kinds",
    3,
)
_UPSERT_RESOLUTION = BatchStatement(
    "WITH said (seq, id, root, time_ms, reason) AS ("
    "SELECT e.seq, e.event_id, e.replay_root, column2, column3 FROM (VALUES {rows})"
    " CROSS JOIN execution e ON e.seq = column1 AND e.status IN (6, 7))"
    "INSERT INTO resolution (seq, time_ms, reason) SELECT seq, time_ms, reason FROM ("
    "SELECT seq, time_ms, reason FROM said UNION ALL"
    " SELECT r.seq, time_ms, reason FROM said CROSS JOIN execution r ON r.event_id = root AND r.status IN (6, 7)"
    " UNION ALL SELECT r.seq, time_ms, reason FROM said"
    " CROSS JOIN execution r ON r.replay_root = coalesce(root, id) AND r.status IN (6, 7)) WHERE true"
    " ON CONFLICT (seq) DO UPDATE SET time_ms = excluded.time_ms, reason = excluded.reason",
    3,
)

_INSERT_TURN = BatchStatement.insert("kept_turn", "seq", "ON CONFLICT DO NOTHING")
_DELETE_TURN = BatchStatement("DELETE FROM kept_turn WHERE seq IN ({rows})")


class _ChangeRows:
    """The merged changes of a transaction, as rows for each statement."""

    def __init__(self) -> None:
        self._as_they_are: defaultdict[type[stored.StateChange], list[Any]] = defaultdict(list)
        self._progress: dict[int, tuple[int, int, int]] = {}
        self._terms: dict[int, int] = {}
        self._parked: dict[int, tuple[int, int, int, int | None, int]] = {}
        self._journal: list[tuple[Any, ...]] = []
        self._histories: list[tuple[int, bytes]] = []
        self._compactions: dict[int, int] = {}
        self._ends: dict[int, tuple[Any, ...]] = {}
        self._replies: list[stored.Replied] = []
        self._outcomes: list[tuple[Any, ...]] = []
        self._schedules: dict[str, stored.Scheduled] = {}
        self._subscriptions: dict[int, tuple[bytes | None, bytes | None, str | None]] = {}
        self._delivered: list[tuple[int]] = []
        self._recorded: list[stored.LifecycleRecorded] = []
        self._begun: set[int] = set()
        self._resolved: dict[int, stored.Resolved] = {}
        self._turns: dict[int, bool] = {}  # whether each execution keeps its own

    def merge(self, change: stored.StateChange) -> None:
        _MERGES[type(change)](self, change)

    def collect(self, change: stored.StateChange) -> None:
        self._as_they_are[type(change)].append(change)

    def move(self, change: stored.Started | stored.Requeued | stored.Suspended | stored.Resumed) -> None:
        seq = change.seq
        self._progress[seq] = (seq, _MOVES[type(change)], change.attempts)
        if not isinstance(change, stored.Resumed):
            self._terms[seq] = max(change.term, self._terms.get(seq, 0))

    def park(self, change: stored.Parked) -> None:
        seq = change.seq
        if change.history:
            self._histories.append((seq, change.history))
        self._parked[seq] = (seq, WAITING, change.attempts, change.wake_at_ms, change.term)
        self._progress.pop(seq, None)
        self._subscriptions[seq] = (
            dump_subscriptions(change.subscriptions) if change.subscriptions else None,
            None if change.retry is None else dump_retry(change.retry),
            " ".join(change.destinations) or None,
        )

    def deliver(self, change: stored.Delivered) -> None:
        seq, entry = change.seq, change.entry
        if seq in self._ends:
            return
        self._progress[seq] = (seq, PENDING, change.attempts)
        self._subscriptions[seq] = _NOTHING
        self._delivered.append((seq,))
        self._journal.append((seq, None, entry.key, entry.output, dump_error(entry.error), None))

    def journalise(self, change: stored.Journaled) -> None:
        seq, entry = change.seq, change.entry
        row = (seq, change.index, entry.key, entry.output, dump_error(entry.error), change.history or None)
        self._journal.append(row)
        if change.compacts:
            self._compactions[seq] = max(change.index, self._compactions.get(seq, 0))

    def reply(self, change: stored.Replied) -> None:
        if change.seq not in self._ends:
            self._replies.append(change)

    def end(self, change: stored.Ended) -> None:
        seq = change.seq
        if seq in self._ends:
            return
        self._ends[seq] = (seq, CODES[change.status], change.attempts, change.end_time_ms, dump_error(change.error))
        attempt = dump_assignment(change.runner, change.assign_time_ms) if change.runner else None
        if change.output is not None or change.reply is not None or change.history or attempt:
            self._outcomes.append((seq, change.output, change.reply, change.history or None, attempt))

    def record(self, change: stored.LifecycleRecorded) -> None:
        if change.seq in self._ends or (change.first and change.seq in self._begun):
            return
        if change.first:
            self._begun.add(change.seq)
        self._recorded.append(change)

    def schedule(self, change: stored.Scheduled) -> None:
        self._schedules[change.flow_id] = change

    def resolve(self, change: stored.Resolved) -> None:
        self._resolved[change.seq] = change

    def turn(self, change: stored.TurnKept | stored.TurnReleased) -> None:
        self._turns[change.seq] = isinstance(change, stored.TurnKept)

    def write(self, connection: apsw.Connection, next_number: int) -> int:
        """Write the merged changes; lifecycle events are numbered from `next_number` on. Return the next number."""
        ends, collected = self._ends, self._as_they_are
        if self._delivered:
            # delivered entries come after stored ones, and after earlier ones of this transaction
            last: dict[int, int] = dict(_LAST_INDEX.fetch(connection, self._delivered))
            for place, (seq, index, *entry) in enumerate(self._journal):
                after = last.get(seq, -1)
                if index is None:
                    self._journal[place] = (seq, after + 1, *entry)
                last[seq] = after + 1 if index is None else max(after, index)
        _INSERT_LIFECYCLE.run(
            connection, [(*event, number) for number, event in enumerate(self._recorded, next_number)]
        )
        _DELETE_LIFECYCLE.run(connection, collected[stored.LifecyclePublished])
        _INSERT_JOURNAL.run(connection, self._journal)
        compactions = list(self._compactions.items())
        for statement in (_KEEP_HISTORY, _TRIM_HISTORY, COMPACT_JOURNAL):
            statement.run(connection, compactions)
        _INSERT_HISTORY.run(connection, self._histories)
        # Before progress: an execution that has both was parked first.
        _UPDATE_PARKED.run(connection, [row for seq, row in self._parked.items() if seq not in ends])
        progress = [(*row, self._terms.get(seq, 0)) for seq, row in self._progress.items() if seq not in ends]
        _UPDATE_PROGRESS.run(connection, progress)
        subscriptions = self._subscriptions.items()
        _UPSERT_SUBSCRIPTIONS.run(connection, [(seq, *row) for seq, row in subscriptions if row != _NOTHING])
        _DELETE_SUBSCRIPTIONS.run(connection, [(seq,) for seq, row in subscriptions if row == _NOTHING])
        insert_emitters(connection, collected[stored.EventReceived])
        _DELETE_INBOUND.run(connection, collected[stored.Consumed])
        write_attempts(connection, collected[stored.AttemptInterrupted], collected[stored.AttemptRefunded])
        _INSERT_REPLY.run(connection, self._replies)
        _INSERT_OUTCOME.run(connection, self._outcomes)
        _UPDATE_ENDED.run(connection, list(ends.values()))
        _UPSERT_SCHEDULE.run(connection, list(self._schedules.values()))
        _UPSERT_RATE.run(connection, collected[stored.RateReserved])
        _write_groups(connection, collected[stored.GroupLeft])
        _UPSERT_RESOLUTION.run(connection, list(self._resolved.values()))
        _INSERT_TURN.run(connection, [(seq,) for seq, keeps in self._turns.items() if keeps])
        _DELETE_TURN.run(connection, [(seq,) for seq, keeps in self._turns.items() if not keeps])
        return next_number + len(self._recorded)


def _write_groups(connection: apsw.Connection, changes: Sequence[stored.GroupLeft]) -> None:
    left: list[tuple[int, int | None, int]] = []
    for seq, absorbed, batches in changes:
        of_batch = absorbed if batches else ()
        left += [(each, seq if of_batch else None, 1 + len(of_batch)) for each in (seq, *of_batch)]
    _LEAVE_GROUP.run(connection, left)
    absorb, batch = LINK_BITS[LinkKind.ABSORB], LINK_BITS[LinkKind.BATCH]
    _INSERT_ABSORBED.run(
        connection,
        [(seq, each, batch if batches else absorb) for seq, absorbed, batches in changes for each in absorbed],
    )


_MOVES: Final = {
    stored.Started: CODES[Status.RUNNING],
    stored.Requeued: PENDING,
    stored.Suspended: CODES[Status.SUSPENDED],
    stored.Resumed: PENDING,
}
_COLLECTED: Final = (
    *(stored.LifecyclePublished, stored.Consumed, stored.EventReceived, stored.AttemptInterrupted),
    *(stored.AttemptRefunded, stored.GroupLeft, stored.RateReserved),
)
"""Changes that are rows of their statements as they are."""
_MERGES: Final[dict[type[stored.StateChange], Callable[[_ChangeRows, Any], None]]] = {
    **dict.fromkeys(_MOVES, _ChangeRows.move),
    **dict.fromkeys(_COLLECTED, _ChangeRows.collect),
    stored.Parked: _ChangeRows.park,
    stored.Delivered: _ChangeRows.deliver,
    stored.Journaled: _ChangeRows.journalise,
    stored.Replied: _ChangeRows.reply,
    stored.Ended: _ChangeRows.end,
    stored.LifecycleRecorded: _ChangeRows.record,
    stored.Scheduled: _ChangeRows.schedule,
    stored.Resolved: _ChangeRows.resolve,
    stored.TurnKept: _ChangeRows.turn,
    stored.TurnReleased: _ChangeRows.turn,
}


class StateChangeOperation(WriterOperation):
    """Writes the state changes of all calls of a transaction.

    Changes of different executions are independent. For one execution only the last progress, the greatest term, and
    the first end count. So the changes are applied kind by kind, with a few statements for all of them.
    """

    order = 1
    changes_executions = True

    def __init__(self) -> None:
        self._next_number = 1

    @override
    def reload(self, connection: apsw.Connection) -> None:
        self._next_number = read_counter(connection, COUNTER) + 1

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[Sequence[stored.StateChange]]) -> list[None]:
        rows = _ChangeRows()
        for changes in arguments:
            for change in changes:
                rows.merge(change)
        next_number = rows.write(connection, self._next_number)
        if next_number != self._next_number:
            write_counter(connection, COUNTER, next_number - 1)
            self._next_number = next_number
        return [None] * len(arguments)
