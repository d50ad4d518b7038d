"""A database of each earlier format becomes one of today's, whole or not at all."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import apsw
import pytest
from support.earlier_formats import EARLIER, make_earlier

from flowhook.errors import ConflictError
from router.storage import formats
from router.storage.schema import FORMAT_VERSION, connect_writer

KILLED = """
import os, pathlib, sys
import apsw
from router.storage import formats
apsw.connection_hooks.append(lambda c: c.create_scalar_function("die", lambda: os.kill(os.getpid(), 9), 0))
formats.TO_NEXT[6] += "SELECT die();"
formats.migrate_file(pathlib.Path(sys.argv[1]))
"""


def tables(path):
    """Return the columns of all tables and what their indexes are of, without regard to how they came to be."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").fetchall()
        found = {}
        for (name,) in names:
            columns = connection.execute(
                'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,)
            ).fetchall()
            indexes = connection.execute(
                'SELECT i.name, i."unique", i.partial, group_concat(c.name) FROM pragma_index_list(?) i,'
                " pragma_index_info(i.name) c GROUP BY 1 ORDER BY 1",
                (name,),
            ).fetchall()
            found[name] = (columns, indexes)
        return found


def rows(path, *queries):
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        return [connection.execute(query).fetchall() for query in queries]


@pytest.mark.parametrize("version", EARLIER)
def test_a_file_of_an_earlier_format_becomes_one_with_the_tables_of_today(tmp_path, version):
    path, new = tmp_path / "flowhook.db", tmp_path / "new.db"
    make_earlier(path, version)
    connect_writer(new).close()
    assert tables(path) != tables(new)
    copy = formats.migrate_file(path)
    assert copy == tmp_path / f"flowhook.db.format-{version}"
    assert tables(path) == tables(new)
    assert rows(path, "PRAGMA user_version", "PRAGMA quick_check") == [[(FORMAT_VERSION,)], [("ok",)]]
    assert rows(copy, "PRAGMA user_version") == [[(version,)]]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert formats.migrate_file(path) is None


def test_the_rows_of_tables_that_are_written_again_are_kept(tmp_path):
    path = tmp_path / "flowhook.db"
    make_earlier(path, 3)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(
            "INSERT INTO subscription VALUES (7, x'5b5d');"
            "INSERT INTO audit VALUES (1, 5, 'ann', 'Apply', 'demo', 'why', 'DENIED');"
            "INSERT INTO cause VALUES (2, 'evt_1', 3);"
            "INSERT INTO inbound_event VALUES (4, 'demo', 2, 'go', 9, 0, x'7b7d', NULL)"
        )
    formats.migrate_file(path)
    assert rows(
        path,
        "SELECT * FROM subscription",
        "SELECT * FROM audit_entry",
        "SELECT * FROM execution_link",
        "SELECT number, receivers FROM inbound_event",
    ) == [
        [(7, b"[]", None, None)],
        [(1, 5, "ann", "Apply", "demo", "why", "DENIED", 1, 5, "")],
        [(2, "evt_1", 3)],
        [(4, 2)],
    ]


def test_a_migration_that_is_killed_leaves_the_earlier_format_and_is_repeated(tmp_path):
    path = tmp_path / "flowhook.db"
    make_earlier(path, 3)
    before = tables(path)
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -9
    assert tables(path) == before
    assert formats.migrate_file(path) == tmp_path / "flowhook.db.format-3"


@pytest.mark.parametrize(
    ("version", "said"),
    [(FORMAT_VERSION + 1, "which a later Flowhook wrote"), (formats.EARLIEST - 1, "migrates those from format 3 on")],
)
def test_another_format_is_refused_and_left_alone(tmp_path, version, said):
    path = tmp_path / "flowhook.db"
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(ConflictError, match=said) as raised:
        formats.migrate_file(path)
    assert raised.value.reason == "FORMAT_UNSUPPORTED"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
