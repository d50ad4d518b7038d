"""Examines the replicated log and the routers' views of it, after all routers have stopped.

`log_problems` and `differences` are pure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw

from chaos.cluster import Findings
from router.storage.commit_log.interface import CommitLog, LogRecord, LogTrimmedError
from router.storage.replicated.batch import BatchPart, decode, record_hash
from router.storage.replicated.follower import Follower
from router.storage.replicated.view import FILE, LOCAL_TABLES, View, ViewPosition

Tables = Mapping[str, Sequence[tuple[Any, ...]]]


def examine(log: CommitLog, views: Mapping[str, Path]) -> Findings:
    """Compare the log with itself, and each router's view with the log. Blocks.

    Args:
        log: all routers have stopped writing to it.
        views: directories of the views, by router.

    Raises:
        FlowhookError: the log can't be read.
    """
    found = list(_read(log))
    records = [record for record in found if not record.void]
    findings = Findings(log_problems(records), {"log_records": len(records)})
    findings.counts["log_purged"] = records[0].position - 1 if records else 0
    findings.problems["log_void"] = [str(record.position) for record in found if record.void]
    findings.counts["log_epochs"] = len({decode(record.data).ownership.epoch for record in records})
    with tempfile.TemporaryDirectory(prefix="flowhook-chaos-") as folder:
        _examine_views(log, records, views, Path(folder), findings)
    return findings


def log_problems(records: Sequence[LogRecord]) -> dict[str, list[str]]:
    """Return what is wrong with the records of a log, by kind."""
    parts = [decode(record.data) for record in records]
    pairs = list(pairwise(zip(records, parts, strict=True)))
    seen: set[str] = set()
    twice = [record.batch_id for record in records if record.batch_id in seen or seen.add(record.batch_id)]  # type: ignore[func-returns-value]
    return {
        "log_gap": [
            f"{before.position} is followed by {after.position}"
            for (before, _), (after, _) in pairs
            if after.position != before.position + 1
        ],
        "log_batch_twice": twice,
        "log_chain_broken": [
            f"{after.position} does not name the record before it"
            for (before, _), (after, part) in pairs
            if part.previous != record_hash(before.data)
        ],
        "log_epochs_interleave": [
            f"at {after.position} epoch {later.ownership.epoch} writes after {earlier.ownership.epoch}"
            for (_, earlier), (after, later) in pairs
            if not _may_follow(earlier, later)
        ],
    }


def _may_follow(earlier: BatchPart, later: BatchPart) -> bool:
    """Whether a record may be the next one: of the same owner and in its order, or the first of a later owner."""
    if later.ownership == earlier.ownership:
        return later.follows(earlier) or (
            earlier.part + 1 == earlier.parts and later.part == 0 and later.number == earlier.number + 1
        )
    return later.ownership.epoch > earlier.ownership.epoch and later.number == 1 and later.part == 0


def differences(expected: Tables, found: Tables) -> list[str]:
    """Return the replicated tables that differ, with the first row that does."""
    different = []
    for name in sorted((expected.keys() | found.keys()) - LOCAL_TABLES):
        wanted, there = expected.get(name, ()), found.get(name, ())
        if wanted != there:
            row = next(iter(set(wanted) ^ set(there)), None)
            different.append(f"{name}: {len(there)} rows instead of {len(wanted)}, for example {row!r:.200}")
    return different


@dataclass(frozen=True, slots=True)
class _RouterView:
    router: str
    path: Path
    position: ViewPosition
    tables: Tables


def _examine_views(
    log: CommitLog, records: Sequence[LogRecord], views: Mapping[str, Path], folder: Path, findings: Findings
) -> None:
    """Replay the log up to the position of each view in turn, and compare.

    If the log begins behind a snapshot, the replay begins with the view that is furthest behind.
    """
    found = sorted(_open(views), key=lambda view: view.position.position)
    different: list[str] = []
    findings.problems["views_differ"] = different
    findings.counts["views_compared"] = 0
    first = records[0].position if records else 1
    found = [view for view in found if view.position.position >= first - 1]
    if not records or not found:
        return
    replay = View(folder)
    whole = first == 1 and not decode(records[0].data).previous
    start = replay.create(log.identity) if whole else _copy(found.pop(0), replay)
    follower = Follower(log, replay, start)
    for view in found:
        if view.position.position > records[-1].position:
            different.append(f"{view.router} is at {view.position.position}, after the end of the log")
            continue
        follower.catch_up(view.position.position)
        with replay.connected() as connection:
            expected = tables_of(connection)
        at = f"{view.router} at {view.position.position}"
        different += [f"{at}: {each}" for each in differences(expected, view.tables)]
        findings.counts["views_compared"] += 1


def _copy(view: _RouterView, replay: View) -> ViewPosition:
    replay.create(view.position.log)
    source = apsw.Connection(str(view.path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with replay.connected() as connection, connection.backup("main", source, "main") as backup:
            backup.step()
    finally:
        source.close()
    return view.position


def _open(views: Mapping[str, Path]) -> Iterator[_RouterView]:
    """Read the views that can be used; one that was discarded is none."""
    for router, directory in views.items():
        if not (directory / FILE).exists():
            continue
        connection = apsw.Connection(str(directory / FILE), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            position = ViewPosition.read(connection)
            if position is not None:
                yield _RouterView(router, directory / FILE, position, tables_of(connection))
        finally:
            connection.close()


def tables_of(connection: apsw.Connection) -> Tables:
    """Return the rows of all tables by their names, each in the order of its primary key."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    tables = {}
    for name in names:
        columns = connection.execute("SELECT name, pk FROM pragma_table_info(?) ORDER BY pk", (name,)).fetchall()
        key = ", ".join(f'"{column}"' for column, position in columns if position)
        tables[name] = connection.execute(f'SELECT * FROM "{name}" ORDER BY {key}').fetchall()  # noqa: S608 - its own
    return tables


def _read(log: CommitLog) -> Iterator[LogRecord]:
    """Yield the records that were not purged."""
    after = 0
    while True:
        try:
            for record in log.read(after):
                after = record.position
                yield record
        except LogTrimmedError as trimmed:
            after = trimmed.first - 1
            continue
        return
