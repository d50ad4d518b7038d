"""Makes empty databases of earlier formats: of today's tables, by undoing the steps of `router.storage.formats`."""

from __future__ import annotations

from contextlib import closing

from router.storage.formats import EARLIEST
from router.storage.schema import FORMAT_VERSION, connect_writer

EARLIER = range(EARLIEST, FORMAT_VERSION)
TO_EARLIER = {
    7: """
DROP TABLE rate_line;
ALTER TABLE execution DROP COLUMN shaping;
ALTER TABLE body DROP COLUMN bytes;
DROP TABLE flow_url;
DROP INDEX rejection_by_outcome;
DROP INDEX rejection_refused;
DROP INDEX rejection_accepted;
DROP INDEX rejection_of_outcome;
ALTER TABLE rejection DROP COLUMN outcome;
DROP INDEX audit_refusal;
ALTER TABLE subscription DROP COLUMN destinations;
DROP TABLE incident;
DROP TABLE kept_turn;
DROP TABLE silence;
DROP TABLE series;
""",
    6: """
ALTER TABLE audit_entry RENAME TO audit;
ALTER TABLE execution_link RENAME TO cause;
DROP INDEX execution_link_by_cause;
CREATE INDEX cause_by_causing ON cause (caused_by, seq);
ALTER TABLE inbound_event RENAME COLUMN receivers TO callback;
""",
    5: """
DROP TABLE audit;
CREATE TABLE audit (
  number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
  reason TEXT NOT NULL, error TEXT NOT NULL
) STRICT;
""",
    4: "",  # it may have the tables of erasures, or not
    3: """
DROP TABLE subscription;
CREATE TABLE subscription (seq INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
""",
}
"""Makes the empty tables of a format of those of the next one."""


def make_earlier(path, version):
    with closing(connect_writer(path, durable=False)) as connection:
        undone = "".join(TO_EARLIER[each] for each in range(FORMAT_VERSION - 1, version - 1, -1))
        connection.execute(f"BEGIN IMMEDIATE; {undone} PRAGMA user_version = {version}; COMMIT;")
