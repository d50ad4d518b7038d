-- A database of format 1: two flows' worth of history, as a router of that format left it.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 0x464C4857;
PRAGMA user_version = 1;
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
  error BLOB
) STRICT;
CREATE UNIQUE INDEX execution_by_event ON execution (event_id);
CREATE INDEX execution_by_flow ON execution (flow);
CREATE INDEX execution_by_end ON execution (end_time_ms);
CREATE INDEX execution_unsuccessful ON execution (seq) WHERE status IN (6, 7);
CREATE INDEX execution_unsuccessful_by_flow ON execution (flow) WHERE status IN (6, 7);

CREATE TABLE event (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE blob (seq INTEGER PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE outcome (seq INTEGER PRIMARY KEY, output BLOB, reply BLOB) STRICT;
CREATE TABLE journal (
  seq INTEGER NOT NULL,
  position INTEGER NOT NULL,
  key TEXT NOT NULL,
  output BLOB,
  error BLOB,
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
  deleted INTEGER NOT NULL,
  create_time_ms INTEGER NOT NULL
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

INSERT INTO flow_key VALUES (1, 'shop');
INSERT INTO counter VALUES ('epoch', 3);
INSERT INTO flow VALUES ('shop', 1, 0, 0, 900);
INSERT INTO flow_revision VALUES ('shop', 1, x'01', x'7b7d', 1, 900);
INSERT INTO execution VALUES (1, 'evt_ended', 1, 1, 8, 1, 1000, 2000, NULL, NULL);
INSERT INTO execution VALUES (2, 'evt_running', 1, 1, 3, 2, 1100, 140737488355327, 'evt_ended', NULL);
INSERT INTO execution VALUES (3, 'evt_pending', 1, 2, 2, 0, 1200, 140737488355327, NULL, NULL);
INSERT INTO event VALUES (1, x'01'), (2, x'02'), (3, x'03');
INSERT INTO outcome VALUES (1, x'7b7d', NULL);
INSERT INTO journal VALUES (2, 0, '/do/0/a#0', x'31', NULL), (2, 1, '/do/1/b#0', x'32', NULL);
