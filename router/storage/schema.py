"""Database schema: tables, connections, and the format's version.

Small rows that change (`execution`) are separate from large ones that don't (`event`, `journal`, `outcome`), so that
starting and ending an execution rewrites about 90 bytes. An `execution` row does not change its size on an update, so
SQLite overwrites it in place instead of rebalancing a full page: hence an end time of `UNENDED` rather than NULL, and
status codes from 2 (0 and 1 take no byte). Only the row of a waiting execution grows, once, by its wake time.

Each index costs time on every event. There are three: by event ID (idempotence), by flow (lists), and by end time,
which serves as the list of unfinished executions (they all have the greatest end time) and as the order of expiry.
Faulted and cancelled executions have partial indexes, and so have replays. Completed executions are found by scanning
backwards, because most executions are completed. Which execution caused which is in a table of its own, without rows
for those that a request or a schedule started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from flowhook.errors import ConflictError
from flowhook.model import Status

FORMAT_VERSION: Final = 8
"""The format of a file with these tables. Each change of them needs another number, and a step in `formats`."""
APPLICATION_ID: Final = 0x464C484B
"""`FLHK`, in the file's header (https://www.sqlite.org/fileformat2.html, "Application ID")."""
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

TABLES: Final = """
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
  term INTEGER NOT NULL DEFAULT 0, -- leases of earlier terms are void
  wake_time_ms INTEGER,
  order_key TEXT,
  effect_scope TEXT,
  quiet INTEGER,
  replay_root TEXT, -- of a replay: the execution that the first of chained replays replayed, stored or expired
  shaping TEXT -- keys of flows with such (see `ShapingKeys`)
) STRICT;
CREATE UNIQUE INDEX execution_by_event ON execution (event_id);
CREATE INDEX execution_by_flow ON execution (flow);
CREATE INDEX execution_by_end ON execution (end_time_ms);
CREATE INDEX execution_unsuccessful ON execution (seq) WHERE status IN (6, 7);
CREATE INDEX execution_unsuccessful_by_flow ON execution (flow) WHERE status IN (6, 7);
CREATE INDEX replay_by_original ON execution (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX replay_by_root ON execution (replay_root) WHERE replay_root IS NOT NULL;
CREATE TABLE kept_turn (seq INTEGER PRIMARY KEY) STRICT; -- executions that faulted and keep the turn of their order key
CREATE TABLE resolution (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE search_attribute ( -- rows only of flows that declare `execution.search`
  seq INTEGER NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (seq, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX search_attribute_by_value ON search_attribute (name, value, seq);
CREATE TABLE execution_link ( -- rows only of executions that another started, or whose event they received
  seq INTEGER NOT NULL,
  caused_by TEXT NOT NULL, -- event ID: that execution may be in another shard, or removed
  kinds INTEGER NOT NULL, -- see `LINK_BITS`
  PRIMARY KEY (seq, caused_by)
) STRICT, WITHOUT ROWID;
CREATE INDEX execution_link_by_cause ON execution_link (caused_by, seq);

CREATE TABLE event (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE blob (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE body ( -- an execution and its replays share one
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  bytes INTEGER NOT NULL DEFAULT 0 -- 0: unknown, of a body from before format 8
) STRICT;
CREATE INDEX body_by_id ON body (id);
CREATE TABLE outcome (
  seq INTEGER PRIMARY KEY,
  output BLOB,
  reply BLOB,
  history BLOB,
  attempt TEXT -- the one that ended the execution, see `dump_assignment`
) STRICT;
CREATE TABLE journal (
  seq INTEGER NOT NULL,
  position INTEGER NOT NULL,
  key TEXT NOT NULL,
  output BLOB,
  error BLOB,
  history BLOB,
  PRIMARY KEY (seq, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE history ( -- results of tasks that no entry of the journal holds any more
  seq INTEGER NOT NULL,
  place INTEGER NOT NULL, -- twice the position of the next entry, plus 1 if it was reported with that entry
  content BLOB NOT NULL,
  PRIMARY KEY (seq, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempt ( -- interrupted ones only, the newest of each execution
  seq INTEGER NOT NULL,
  position INTEGER NOT NULL, -- from 1, in the order of their ends: those before the first row were removed
  number INTEGER NOT NULL,
  runner TEXT NOT NULL,
  assign_time_ms INTEGER,
  end_time_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  charged INTEGER NOT NULL,
  PRIMARY KEY (seq, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscription ( -- what a waiting execution waits for besides a time
  seq INTEGER PRIMARY KEY,
  content BLOB, -- events, and ends of other executions
  retry BLOB, -- what failed and is tried again, see `dump_retry`
  destinations TEXT -- origins that are down, with spaces in between
) STRICT;
CREATE TABLE inbound_event (
  number INTEGER PRIMARY KEY, -- never reused: see `counter`
  flow_id TEXT NOT NULL,
  receivers INTEGER NOT NULL, -- 0: of an emitted event; 1: of a callback, one that waits; 2: of a callback, all
  type TEXT NOT NULL,
  expire_at_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL, -- of the execution it is addressed to; 0: any that listens
  payload BLOB NOT NULL,
  emitter TEXT -- ID of the execution whose event it is
) STRICT;
CREATE INDEX inbound_event_by_expiry ON inbound_event (expire_at_ms);
CREATE TABLE lifecycle_event ( -- the outbox
  number INTEGER PRIMARY KEY, -- never reused: see `counter`
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  time_ms INTEGER NOT NULL,
  key TEXT NOT NULL,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE flow_url ( -- URLs of flows' own
  flow_id TEXT PRIMARY KEY,
  host TEXT NOT NULL, -- empty: any
  path TEXT NOT NULL,
  deeper INTEGER NOT NULL -- whether paths below it belong to the flow, too
) STRICT;

CREATE TABLE rejection (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  flow_id TEXT NOT NULL,
  time_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  accepted_id TEXT, -- of the event that it was accepted as, or of the execution that it is about
  accepted_by TEXT,
  accept_time_ms INTEGER,
  content BLOB NOT NULL,
  sealed BLOB, -- the request with its credentials, encrypted
  outcome TEXT NOT NULL DEFAULT 'refused'
) STRICT;
CREATE INDEX rejection_by_flow ON rejection (flow_id, number);
CREATE INDEX rejection_by_reason ON rejection (flow_id, reason, time_ms);
-- what a buffer has too much of, or is asked for, is found without reading rows, whose outcome is behind their content
CREATE INDEX rejection_by_outcome ON rejection (flow_id, outcome, number);
CREATE INDEX rejection_refused ON rejection (outcome = 'refused', number);
CREATE INDEX rejection_accepted ON rejection (accepted_id) WHERE accepted_id NOT NULL;
CREATE INDEX rejection_of_outcome ON rejection (outcome);
CREATE TABLE audit_entry (
  number INTEGER PRIMARY KEY,
  time_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  reason TEXT NOT NULL,
  error TEXT NOT NULL,
  calls INTEGER NOT NULL,
  last_time_ms INTEGER NOT NULL,
  address TEXT NOT NULL
) STRICT;
CREATE INDEX audit_refusal ON audit_entry (actor, action, error) WHERE error <> '';
CREATE TABLE incident (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  destination TEXT NOT NULL,
  open_time_ms INTEGER NOT NULL,
  close_time_ms INTEGER,
  announced INTEGER NOT NULL DEFAULT 0, -- lifecycle events of it that were published
  content BLOB NOT NULL
) STRICT;
CREATE INDEX incident_open ON incident (number) WHERE close_time_ms IS NULL;

CREATE TABLE silence ( -- see `Silence`
  flow_id TEXT PRIMARY KEY,
  since_ms INTEGER NOT NULL,
  begin_ms INTEGER NOT NULL,
  serve_ms INTEGER NOT NULL,
  end_ms INTEGER,
  announced INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dedupe (
  digest BLOB PRIMARY KEY,
  until_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  event_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dedupe_by_until ON dedupe (until_ms);

-- the last numbers used for `seq`, `inbound_event`, `lifecycle_event`; sessions would not see those of AUTOINCREMENT
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE flow (
  flow_id TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  paused INTEGER NOT NULL,
  deleted INTEGER NOT NULL, -- Unix time in ms; 0: it is not deleted
  create_time_ms INTEGER NOT NULL,
  reacts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX flow_reacting ON flow (flow_id) WHERE reacts;
CREATE TABLE flow_revision (
  flow_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  document BLOB NOT NULL,
  definition BLOB NOT NULL,
  has_webhook INTEGER NOT NULL,
  update_time_ms INTEGER NOT NULL,
  PRIMARY KEY (flow_id, revision)
) STRICT;
CREATE TABLE job (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT NOT NULL,
  state TEXT NOT NULL,
  spec BLOB NOT NULL,
  last_seq INTEGER NOT NULL,
  cursor INTEGER NOT NULL DEFAULT 0,
  expected INTEGER,
  matched INTEGER NOT NULL DEFAULT 0,
  done INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  create_time_ms INTEGER NOT NULL,
  start_time_ms INTEGER,
  end_time_ms INTEGER,
  data_bytes INTEGER NOT NULL DEFAULT 0,
  removed INTEGER NOT NULL DEFAULT 0 -- 1: nobody sees it, and its items are being removed
) STRICT;
CREATE TABLE job_data (job INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT; -- of jobs that have not ended
CREATE UNIQUE INDEX job_by_request ON job (request_id) WHERE request_id <> '' AND NOT removed;
CREATE TABLE job_item (
  job INTEGER NOT NULL,
  number INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  execution_id TEXT NOT NULL,
  outcome INTEGER NOT NULL, -- 1: claimed, and not settled yet
  reason TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  new_execution_id TEXT NOT NULL DEFAULT '',
  time_ms INTEGER NOT NULL,
  PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_item_claimed ON job_item (job) WHERE outcome = 1;
CREATE TABLE secret (name TEXT PRIMARY KEY, sealed BLOB NOT NULL, update_time_ms INTEGER NOT NULL) STRICT;
CREATE TABLE registry_change (
  revision INTEGER PRIMARY KEY,
  flow_id TEXT NOT NULL,
  secret_name TEXT NOT NULL
) STRICT;
CREATE TABLE erasure ( -- the newest executions whose data was erased
  number INTEGER PRIMARY KEY,
  execution_id TEXT NOT NULL UNIQUE,
  root TEXT NOT NULL, -- the execution that replays of the same event replayed; shared by all that were erased together
  flow_id TEXT NOT NULL,
  time_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE wipe ( -- one row, about this file: see `erasure`
  k INTEGER PRIMARY KEY CHECK (k = 1),
  done INTEGER NOT NULL, -- number of the last erasure of which nothing is left in this file
  target INTEGER NOT NULL, -- that of the pass under way
  page INTEGER NOT NULL -- where that continues; 0: none is under way
) STRICT;
CREATE TABLE rate_line (line BLOB PRIMARY KEY, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID; -- see `RateReserved`
CREATE INDEX rate_line_by_until ON rate_line (until_ms);
CREATE TABLE series ( -- see `series`; without row IDs, rows above 2 kB would have pages of their own
  flow_id TEXT NOT NULL, -- empty: all flows
  level INTEGER NOT NULL,
  minute INTEGER NOT NULL, -- Unix time in minutes at which it begins
  content BLOB NOT NULL,
  PRIMARY KEY (flow_id, level, minute)
) STRICT;
CREATE TABLE schedule (flow_id TEXT PRIMARY KEY, due_ms INTEGER, last_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


def _distrust_schema(connection: apsw.Connection) -> None:
    """Let the schema of a file, which somebody else may have written, call no function that reaches beyond it.

    Source: https://www.sqlite.org/pragma.html#pragma_trusted_schema
    """
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)


apsw.connection_hooks.append(_distrust_schema)

BUSY_MS: Final = 5000  # milliseconds for which a connection waits for the lock of another
_WRITER = """
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 8000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -32768;
PRAGMA secure_delete = FAST;
PRAGMA temp_store = MEMORY;
"""


def connect_writer(path: Path, *, durable: bool = True) -> apsw.Connection:
    """Return the writing connection, with its tables created; `durable`: a commit waits for stable storage.

    Raises:
        ConflictError: the file has another format (`FORMAT_UNSUPPORTED`: see `formats`) or is not a Flowhook database
            (`NOT_A_FLOWHOOK_DATABASE`).
        apsw.Error: the file can't be opened.
    """
    connection = apsw.Connection(str(path), statementcachesize=256)
    try:
        connection.set_busy_timeout(BUSY_MS)
        found = read_version(connection, path)
        if found not in (0, FORMAT_VERSION):
            raise ConflictError(  # noqa: TRY301 - closes the connection
                f"{path} has format {found}, and this Flowhook writes format {FORMAT_VERSION}",
                reason="FORMAT_UNSUPPORTED",
            )
        if not found:  # it must be said before anything is written, and would take the lock of an existing file
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL")  # see `vacuum`
        connection.execute(_WRITER).fetchall()
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}").fetchall()
        if not found:
            connection.execute(
                f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    """Return a read-only connection, which sees committed data."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=128)
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA query_only = 1; PRAGMA cache_size = -8192;").fetchall()
    return connection


def read_version(connection: apsw.Connection, path: Path) -> int:
    """Return the version of a file's format, 0 when it is empty, without changing the file.

    Raises ConflictError if it is not a Flowhook database (`NOT_A_FLOWHOOK_DATABASE`).
    """
    try:
        version: int = connection.execute("PRAGMA user_version").get
        application = connection.execute("PRAGMA application_id").get
        empty = connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None
    except apsw.NotADBError:
        version, application, empty = 0, 0, False
    if empty and version == 0 and application == 0:
        return 0
    if application != APPLICATION_ID:
        raise ConflictError(f"{path} is not a Flowhook database", reason="NOT_A_FLOWHOOK_DATABASE")
    return version
