"""The write-ahead log of an open storage is copied into the database, and written from its beginning again."""

from __future__ import annotations

import asyncio
from asyncio import to_thread

import apsw
from support.patience import PATIENCE

from router.storage import checkpoints
from router.storage.schema import connect_writer
from router.storage.storage import open_storage


def salts(path):
    """Return what is different in each log that SQLite begins (https://www.sqlite.org/fileformat2.html, "WAL")."""
    with path.with_name(f"{path.name}-wal").open("rb") as log:
        return log.read(32)[16:24]


async def test_the_log_is_begun_again_while_work_goes_on_and_does_not_grow(path, storage, new_event, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(checkpoints, "LONG_PAGES", 20)
    log = storage.log
    await log.append([new_event()])
    seen = {salts(path)}

    async def work():
        while len(seen) < 3:
            await log.append([new_event()])
            seen.add(salts(path))

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(work() for _ in range(4)))
    assert path.stat().st_size > 8192 * 20  # what was written is in the database, and nobody closed it


async def test_no_commit_copies_what_came_while_a_long_read_kept_the_log(path, new_event, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", 3600)
    storage, log = await open_storage(path), path.with_name(f"{path.name}-wal")
    await storage.log.append([new_event()])
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM execution").get == 1
    while log.stat().st_size < 80 << 20:
        await storage.log.append([new_event(payload=b"x" * 900_000) for _ in range(10)])
    reader.close()
    await storage.log.append([new_event()])
    assert path.stat().st_size < 1 << 20
    await storage.close()


async def test_a_storage_that_is_closed_leaves_no_log(path, new_event, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", 0)
    storage = await open_storage(path)
    for _ in range(20):
        await storage.log.append([new_event()])
    await storage.close()
    assert not path.with_name(f"{path.name}-wal").exists()


async def test_what_was_not_written_to_is_not_copied_again(path, storage, new_event, monkeypatch):
    ticks, copies = asyncio.Queue(), []
    copy = checkpoints.checkpoint

    async def next_tick(_):
        ticks.put_nowait(len(copies))
        await asyncio.sleep(0)

    def copied(connection):
        copies.append(copy(connection))
        return copies[-1]

    async def looks():
        """Let it look three times, and return how often it had copied by then."""
        while not ticks.empty():
            ticks.get_nowait()
        return [await ticks.get() for _ in range(4)][-1]

    monkeypatch.setattr(checkpoints, "checkpoint", copied)
    await storage.log.append([new_event()])
    monkeypatch.setattr(checkpoints, "next_tick", next_tick)
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", 0)
    async with asyncio.timeout(PATIENCE):
        while not (before := await looks()):
            pass
        assert await looks() == before
        await storage.log.append([new_event()])
        while await looks() == before:
            pass


async def test_after_a_failure_to_open_the_log_it_is_opened_again(path, monkeypatch):
    """On a connection that has not opened the log, a checkpoint copies nothing, without an error."""
    monkeypatch.setattr(checkpoints, "PAUSE_SECONDS", 0.001)
    path.parent.mkdir()
    writer = connect_writer(path)
    writer.execute("INSERT INTO job_data (content) VALUES (zeroblob(100000))")
    before = path.stat().st_size
    subject = checkpoints.Checkpoints(path, writer, to_thread)
    failures = []

    class Failing(apsw.Connection):
        def pragma(self, *arguments, **options):
            if not failures:
                failures.append(arguments)
                raise apsw.IOError("the log can't be read")
            return super().pragma(*arguments, **options)

    monkeypatch.setattr(apsw, "Connection", Failing)
    running = asyncio.create_task(subject.run_forever())
    async with asyncio.timeout(PATIENCE):
        while path.stat().st_size == before:
            await asyncio.sleep(0.001)
    assert failures
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await subject.close()
    writer.close()
