"""What the data takes on the disk."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from router.storage.storage import measure


def write(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_the_database_its_log_and_the_files_are_measured(tmp_path):
    database, files = tmp_path / "flowhook.db", tmp_path / "blobs"
    write(database, 1000)
    usage = measure(database, files)
    assert astuple(usage)[:5] == (1000, 0, 0, 0, False)
    write(tmp_path / "flowhook.db-wal", 200)
    for name, size in (("ab/one", 10), ("ab/two", 20), ("cd/three", 30), ("four", 40)):
        write(files / name, size)
    usage = measure(database, files)
    assert astuple(usage)[:5] == (1000, 200, 100, 4, False)
    assert 0 < usage.free_bytes < usage.disk_bytes


def test_no_more_than_so_many_files_are_looked_at(tmp_path):
    write(tmp_path / "flowhook.db", 1)
    for number in range(5):
        write(tmp_path / "blobs" / "ab" / str(number), 10)
    usage = measure(tmp_path / "flowhook.db", tmp_path / "blobs", max_files=3)
    assert (usage.file_bytes, usage.files, usage.files_partial) == (30, 3, True)


def test_without_a_database_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "none.db", tmp_path / "blobs")
