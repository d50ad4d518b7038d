"""A second database that follows the first one by the patchsets of its transactions, to compare the two.

What SQLite's session extension says has changed, row by row, is all that a follower gets: a row that depends on a
clock, a random number or a hidden counter would differ.
"""

from __future__ import annotations

import apsw

MAIN = "main"


class Replica:
    """A `TransactionLog` that applies each transaction to a database in memory once it has committed."""

    def __init__(self):
        self._database = None
        self._session = None
        self._appended = b""

    def begin(self, connection):
        if self._database is None:
            self._database = copy_of(connection.filename)
        self._apply()
        self._session = apsw.Session(connection, MAIN)
        self._session.attach()

    def append(self):
        self._appended = self._session.patchset()
        self._close_session()

    def roll_back(self):
        self._appended = b""  # COMMIT may have failed after `append`
        self._close_session()

    def room(self):
        return None

    def _apply(self):
        if self._appended:
            apsw.Changeset.apply(self._appended, self._database, conflict=_refuse)
            self._appended = b""

    def _close_session(self):
        if self._session is not None:
            self._session.close()
            self._session = None

    def check(self, path):
        """Compare with the database at a path, which is closed, table by table and row by row."""
        if self._database is None:
            return
        self._apply()
        original = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            ours, theirs = tables(original), tables(self._database)
        finally:
            original.close()
            self._database.close()
        assert theirs.keys() == ours.keys()
        del ours["wipe"], theirs["wipe"]  # the state of one file, which no transaction of the writer changes
        different = {name: (rows, theirs[name]) for name, rows in ours.items() if rows != theirs[name]}
        assert not different, f"tables differ (original, replica): {different}"


def copy_of(path):
    """Return a database in memory with what is committed in the one at a path."""
    copy, original = apsw.Connection(":memory:"), apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    with copy.backup(MAIN, original, MAIN) as backup:
        backup.step()
    original.close()
    return copy


def tables(connection):
    """Return the rows of all tables by their names, each in the order of its primary key."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {}
    for name in names:
        columns = connection.execute("SELECT name, pk FROM pragma_table_info(?) ORDER BY pk", (name,)).fetchall()
        key = ", ".join(f'"{column}"' for column, position in columns if position)
        assert key, f"{name} has no primary key: sessions would not see it"
        found[name] = connection.execute(f'SELECT * FROM "{name}" ORDER BY {key}').fetchall()
    return found


def _refuse(reason, change):
    raise AssertionError(f"the replica differs: {apsw.mapping_session_conflict[reason]} {change}")
