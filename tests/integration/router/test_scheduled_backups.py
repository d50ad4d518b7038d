"""Scheduled backups, made by a process of a router that serves."""

import asyncio

import psutil
from support.patience import until
from support.stored_executions import populate

from flowhook.process.settings import RouterSettings
from router.process.backup_schedule import run_program
from router.storage.backups.archive import read_archive
from router.storage.backups.targets import file_name, time_of
from router.storage.storage import open_storage

OLD = [file_name(day * 86_400) for day in range(5)]


async def used(directory):
    storage = await open_storage(directory / "flowhook.db")
    await populate(storage, 9)
    return storage


def settings_of(tmp_path, **more):
    more = {"backup_keep_last": 2, "backup_keep_daily": 0, "backup_keep_weekly": 0, **more}
    return RouterSettings(data_dir=tmp_path / "data", backup_target=str(tmp_path / "backups"), **more)


async def test_a_process_makes_a_backup_beside_a_storage_in_use_and_removes_what_is_not_kept(tmp_path):
    storage, settings, backups = await used(tmp_path / "data"), settings_of(tmp_path), tmp_path / "backups"
    backups.mkdir()
    for name in (*OLD, "notes.txt"):
        (backups / name).write_bytes(b"x")
    found = await run_program(settings, "look")
    assert (found.newest, found.error) == (time_of(OLD[-1]), "")
    made = await run_program(settings, "make")
    assert made.error == ""
    assert sorted(path.name for path in backups.iterdir()) == sorted([OLD[-1], file_name(made.newest), "notes.txt"])
    assert sum(read_archive(backups / file_name(made.newest)).executions.values()) == 15
    assert (await run_program(settings, "look")).newest == made.newest
    await storage.close()


async def test_a_backup_that_fails_says_why_and_removes_nothing(tmp_path):
    backups = tmp_path / "backups"
    backups.mkdir()
    for name in OLD:
        (backups / name).write_bytes(b"x")
    made = await run_program(settings_of(tmp_path), "make")
    assert made.error == f"there is no database at {tmp_path}/data/flowhook.db (DATABASE_NOT_FOUND)"
    assert made.newest == time_of(OLD[-1])
    assert sorted(path.name for path in backups.iterdir()) == OLD


async def test_a_target_that_is_no_directory_is_said(tmp_path):
    (tmp_path / "backups").write_bytes(b"")
    assert "NOTDIR" in (await run_program(settings_of(tmp_path), "look")).error


async def test_a_backup_ends_with_the_router(tmp_path):
    storage, settings = await used(tmp_path / "data"), settings_of(tmp_path)
    before = {child.pid for child in psutil.Process().children()}
    making = asyncio.create_task(run_program(settings, "make"))
    try:
        await until(lambda: (tmp_path / "backups").exists() or making.done())
    finally:
        making.cancel()
        await asyncio.wait({making})
    assert {child.pid for child in psutil.Process().children()} <= before
    await storage.close()
