"""Database schema: tables, migrations, connections, and the format's version.

Small rows that change (`execution`) are separate from large ones that don't (`event`, `journal`, `outcome`), so that
starting and ending an execution rewrites about 90 bytes. An `execution` row does not change its size on an update, so
SQLite overwrites it in place instead of rebalancing a full page: hence an end time of `UNENDED` rather than NULL, and
status codes from 2 (0 and 1 take no byte). Only the row of a waiting execution grows, once, by its wake time.

Each index costs time on every event. There are three: by event ID (idempotence), by flow (lists), and by end time,
which serves as the list of unfinished executions (they all have the greatest end time) and as the order of expiry.
Faulted and cancelled executions have partial indexes, and so have replays. Completed executions are found by scanning
backwards, because most executions are completed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from flowhook.errors import ConflictError
from flowhook.model import Status

FORMAT_VERSION: Final = 8
APPLICATION_ID: Final = 0x464C4857
"""`FLHW`, in the file's header (https://www.sqlite.org/fileformat2.html, "Application ID")."""

UNENDED: Final = (1 << 47) - 1
"""End time of an unfinished execution: the largest integer that takes as many bytes as a Unix time in ms (6)."""

CODES: Final = {
    Status.PENDING: 2,
    Status.RUNNING: 3,
    Status.WAITING: 4,
    Status.SUSPENDED: 5,
    Status.CANCELLED: 6,
    Status.FAULTED: 7,
    Status.COMPLETED: 8,
}
PENDING: Final = CODES[Status.PENDING]
WAITING: Final = CODES[Status.WAITING]
STATUSES: Final = {code: status for status, code in CODES.items()}

PAGE_BYTES: Final = 8192
"""Page size. With payloads of 1 KiB, measurements show less unused space in pages than with 4096."""

_EVENTS = """
CREATE TABLE subscription (seq INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE TABLE arrival (
  number INTEGER PRIMARY KEY AUTOINCREMENT, -- a number that was consumed is not used again
  flow_id TEXT NOT NULL,
  callback INTEGER NOT NULL, -- 0: emitted; 1: of a callback, for one execution; 2: for all that wait for it
  type TEXT NOT NULL,
  expire_at_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL, -- of the execution it is for; 0: whichever listen
  payload BLOB NOT NULL
) STRICT;
CREATE INDEX arrival_by_expiry ON arrival (expire_at_ms);
CREATE INDEX flow_reacting ON flow (flow_id) WHERE reacts;
CREATE TABLE rejection (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  flow_id TEXT NOT NULL,
  time_ms INTEGER NOT NULL,
  content BLOB NOT NULL
) STRICT;
CREATE INDEX rejection_by_flow ON rejection (flow_id, number);
CREATE TABLE schedule (flow_id TEXT PRIMARY KEY, due_ms INTEGER, last_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE body (seq INTEGER PRIMARY KEY, id TEXT NOT NULL) STRICT; -- an execution and those that replay it share one
CREATE INDEX body_by_id ON body (id);
"""
"""Tables added in format 4."""

_OCCURRENCES = """
CREATE TABLE occurrence (
  number INTEGER PRIMARY KEY AUTOINCREMENT, -- a number that was told is not used again
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  time_ms INTEGER NOT NULL
) STRICT;
"""
"""The table added in format 5: the outbox of lifecycle events."""

_WITHIN = """
ALTER TABLE occurrence ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE occurrence ADD COLUMN data BLOB NOT NULL DEFAULT x'';
"""
"""Columns added in format 6: details of lifecycle events that runners report."""

_REPLAYS = """
CREATE INDEX replay_by_original ON execution (replay_of) WHERE replay_of IS NOT NULL;
CREATE TABLE history ( -- what tasks came to, where no entry of the journal has it any more
  seq INTEGER NOT NULL,
  place INTEGER NOT NULL, -- twice the position of the entry that came next, plus 1 if it was told with that
  content BLOB NOT NULL,
  PRIMARY KEY (seq, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE resolution (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
"""
"""Tables and indexes added in format 7: replays of executions, operators' resolutions, and task histories."""

_LINES = """
DROP INDEX IF EXISTS replay_by_root;
CREATE INDEX replay_by_root ON execution (replay_root) WHERE replay_root IS NOT NULL;
"""
"""The index changed in format 8: replays, failed or not, are found by the execution the first of them replayed."""

_ROOTS = """
UPDATE execution SET replay_root = line.root FROM (
  WITH RECURSIVE line (seq, id, root) AS (
    SELECT r.seq, r.event_id, r.replay_of FROM execution r LEFT JOIN execution o ON o.event_id = r.replay_of
      WHERE r.replay_of IS NOT NULL AND o.replay_of IS NULL
    UNION ALL
    SELECT r.seq, r.event_id, line.root FROM line JOIN execution r ON r.replay_of = line.id
  ) SELECT * FROM line
) AS line WHERE execution.seq = line.seq;
"""

_TABLES = f"""
CREATE TABLE flow_key (key INTEGER PRIMARY KEY, flow_id TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE execution (
  seq INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  flow INTEGER NOT NULL,
  flow_revision INTEGER NOT NULL,
  status INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  receive_time_ms INTEGER NOT NULL,
  end_time_ms INTEGER NOT NULL,
  replay_of TEXT,
  error BLOB,
  requeued INTEGER NOT NULL DEFAULT 0, -- the term; of all that was written before there were terms, 1 at the most
  wake_time_ms INTEGER,
  order_key TEXT,
  effect_scope TEXT,
  quiet INTEGER,
  replay_root TEXT -- of a replay: the first in its row of replays, whether it is kept or not
) STRICT;
CREATE UNIQUE INDEX execution_by_event ON execution (event_id);
CREATE INDEX execution_by_flow ON execution (flow);
CREATE INDEX execution_by_end ON execution (end_time_ms);
CREATE INDEX execution_unsuccessful ON execution (seq) WHERE status IN (6, 7);
CREATE INDEX execution_unsuccessful_by_flow ON execution (flow) WHERE status IN (6, 7);

CREATE TABLE event (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE blob (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE outcome (seq INTEGER PRIMARY KEY, output BLOB, reply BLOB, history BLOB) STRICT;
CREATE TABLE journal (
  seq INTEGER NOT NULL,
  position INTEGER NOT NULL,
  key TEXT NOT NULL,
  output BLOB,
  error BLOB,
  history BLOB,
  PRIMARY KEY (seq, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE dedupe (
  digest BLOB PRIMARY KEY,
  until_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  event_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dedupe_by_until ON dedupe (until_ms);

CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE flow (
  flow_id TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  paused INTEGER NOT NULL,
  deleted INTEGER NOT NULL, -- when, in Unix milliseconds; 0: it is there
  create_time_ms INTEGER NOT NULL,
  reacts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE flow_revision (
  flow_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  document BLOB NOT NULL,
  definition BLOB NOT NULL,
  has_webhook INTEGER NOT NULL,
  update_time_ms INTEGER NOT NULL,
  PRIMARY KEY (flow_id, revision)
) STRICT;
CREATE TABLE secret (name TEXT PRIMARY KEY, sealed BLOB NOT NULL, update_time_ms INTEGER NOT NULL) STRICT;
CREATE TABLE registry_change (
  revision INTEGER PRIMARY KEY,
  flow_id TEXT NOT NULL,
  secret_name TEXT NOT NULL
) STRICT;
{_EVENTS}
{_OCCURRENCES}
{_WITHIN}
{_REPLAYS}
{_LINES}
"""

_MIGRATIONS: Final = {
    1: "ALTER TABLE execution ADD COLUMN requeued INTEGER NOT NULL DEFAULT 0;",
    2: "ALTER TABLE execution ADD COLUMN wake_time_ms INTEGER;"
    "ALTER TABLE execution ADD COLUMN order_key TEXT;"
    "ALTER TABLE execution ADD COLUMN effect_scope TEXT;",
    3: f"ALTER TABLE flow ADD COLUMN reacts INTEGER NOT NULL DEFAULT 0; {_EVENTS}",
    4: f"ALTER TABLE execution ADD COLUMN quiet INTEGER; {_OCCURRENCES}",
    5: _WITHIN,
    6: "ALTER TABLE outcome ADD COLUMN history BLOB; ALTER TABLE journal ADD COLUMN history BLOB;"
    f"ALTER TABLE execution ADD COLUMN replay_root TEXT; {_REPLAYS} {_ROOTS}",
    7: _LINES,
}
"""SQL that migrates each earlier version to the next. Adding a column rewrites no row; new indexes cover few rows.

Source: https://www.sqlite.org/lang_altertable.html, "ALTER TABLE ADD COLUMN".
"""

_WRITER = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 2000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -32768;
PRAGMA secure_delete = FAST;
PRAGMA temp_store = MEMORY;
"""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Return the writing connection, with its tables created or migrated.

    Raises:
        ConflictError: the file is of a later version (`FORMAT_TOO_NEW`) or not a Flowhook database
            (`NOT_A_FLOWHOOK_DATABASE`).
        sqlite3.Error: the file can't be opened.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        version = _version(connection, path)
        connection.executescript(_WRITER)
        if version < FORMAT_VERSION:
            changes = "".join(_MIGRATIONS[each] for each in range(version, FORMAT_VERSION)) if version else _TABLES
            connection.executescript(
                f"BEGIN IMMEDIATE; {changes} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a read-only connection, which sees committed data."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=128)
    connection.executescript("PRAGMA query_only = 1; PRAGMA busy_timeout = 5000; PRAGMA cache_size = -8192;")
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's format version, 0 when it is empty, without changing the file."""
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        empty = connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
            raise
        version, application, empty = 0, 0, False
    if empty and version == 0 and application == 0:
        return 0
    if application != APPLICATION_ID:
        raise ConflictError(f"{path} is not a Flowhook database", reason="NOT_A_FLOWHOOK_DATABASE")
    if version > FORMAT_VERSION:
        raise ConflictError(
            f"{path} has format {version}; this Flowhook reads up to {FORMAT_VERSION}: use a newer one",
            reason="FORMAT_TOO_NEW",
        )
    return version
