"""The files of a SQLite storage: who may open them, and what they look like."""

import asyncio
import os
import stat
import sys

import apsw
import pytest

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, UnavailableError
from flowhook.model import Status
from router.storage.model import Ended
from router.storage.schema import FORMAT_VERSION, connect_writer
from router.storage.storage import open_storage

LARGE = b"x" * (limits.INLINE_BODY_BYTES + 1)
HOLD = """
import asyncio, pathlib, sys
from router.storage.storage import open_storage
from router.storage.schema import connect_writer
async def main():
    await open_storage(pathlib.Path(sys.argv[1]))
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def blobs(path):
    return sorted(blob for blob in (path.parent / "blobs").glob("*/*"))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_is_killed(path):
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLD, str(path), stdout=asyncio.subprocess.PIPE)
    try:
        assert await holder.stdout.readline() == b"open\n"
        with pytest.raises(ConflictError, match=f"process {holder.pid}") as raised:
            await open_storage(path)
        assert raised.value.reason == "DATA_DIR_IN_USE"
        assert raised.value.metadata == {"pid": str(holder.pid)}
    finally:
        holder.kill()
        await holder.wait()
    await (await open_storage(path)).close()


async def test_one_process_opens_it_once_at_a_time(path, storage):
    with pytest.raises(ConflictError, match=str(os.getpid())):
        await open_storage(path)
    await storage.close()
    await (await open_storage(path)).close()


async def test_all_files_are_their_owners_alone(path, storage, new_event):
    await storage.log.append([new_event(LARGE)])
    for file in path.parent.rglob("*"):
        assert mode(file) == (0o700 if file.is_dir() else 0o600), file
    assert mode(path.parent) == 0o700
    assert {f"flowhook.db{suffix}" for suffix in ("", "-wal", "-shm", ".lock")} < {
        file.name for file in path.parent.iterdir()
    }


async def test_commits_are_durable(path, storage):
    connection = connect_writer(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


async def test_a_closed_storage_is_one_file_and_its_lock(path, storage, new_event):
    await storage.log.append([new_event()])
    await storage.registry.list_flows()
    await storage.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["flowhook.db", "flowhook.db.lock"]


@pytest.mark.parametrize("version", [2, FORMAT_VERSION + 1])
async def test_another_format_is_refused_and_left_alone(path, storage, version):
    await storage.close()
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConflictError, match=f"has format {version}, ") as raised:
        await open_storage(path)
    assert raised.value.reason == "FORMAT_UNSUPPORTED"
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["another application's", "not a database"])
async def test_what_is_not_ours_is_refused_and_left_alone(path, kind):
    path.parent.mkdir()
    if kind == "not a database":
        path.write_bytes(b"hello " * 10_000)
    else:
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE t (c)")
        connection.close()
    before = path.read_bytes()
    for _ in range(2):  # the lock is released
        with pytest.raises(ConflictError) as raised:
            await open_storage(path)
        assert raised.value.reason == "NOT_A_FLOWHOOK_DATABASE"
    assert path.read_bytes() == before


async def test_a_path_that_cannot_be_opened_is_reported_as_unavailable(tmp_path):
    (tmp_path / "flowhook.db").mkdir()
    with pytest.raises(UnavailableError, match="EISDIR"):
        await open_storage(tmp_path / "flowhook.db")


async def test_large_payloads_are_files_and_small_ones_are_not(path, storage, new_event):
    event = new_event(LARGE)
    await storage.log.append([event, new_event(LARGE[:-1])])
    [blob] = blobs(path)
    assert blob.read_bytes() == LARGE
    assert blob.name.startswith(event.event_id)
    assert await storage.log.append([event])
    assert blobs(path) == [blob]


async def test_the_file_of_a_removed_execution_is_removed(path, storage, new_event):
    await storage.log.append([new_event(LARGE), new_event(LARGE)])
    state = await storage.own()
    await state.write([Ended(1, Status.COMPLETED, 1, 1)])
    await state.expire(ended_before_ms=2)
    assert len(blobs(path)) == 1
    assert set(await state.work([1, 2])) == {2}


async def test_files_that_nothing_refers_to_are_removed_when_opened(path, storage, new_event):
    await storage.log.append([new_event(LARGE)])
    await storage.close()
    [blob] = blobs(path)
    (blob.parent / "evt_orphan.1234").write_bytes(b"x")
    reopened = await open_storage(path)
    assert blobs(path) == [blob]
    await reopened.close()


@pytest.mark.parametrize("event_id", ["../../escape", "", "a/b", "evt_\x00"])
async def test_an_event_id_that_is_no_file_name_is_refused_with_a_large_payload(path, storage, new_event, event_id):
    with pytest.raises(InvalidError) as raised:
        await storage.log.append([new_event(LARGE), new_event(LARGE, event_id=event_id)])
    assert raised.value.reason == "EVENT_ID_INVALID"
    assert blobs(path) == []


async def test_a_large_event_whose_sender_went_away_leaves_no_file_that_nothing_refers_to(path, storage, new_event):
    event = new_event(LARGE)
    await storage.log.append([event])
    again = asyncio.create_task(storage.log.append([event]))
    await asyncio.sleep(0)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    await storage.close()
    assert len(blobs(path)) == 1
