"""Makes a backup of what the settings of a router name, in a process of its own: that of a command, or of a schedule.

As a program, which the schedule starts, it writes one JSON object to a descriptor that it inherits: see `BackupReport`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.process.kernel import die_with_parent
from flowhook.process.settings import RouterSettings
from flowhook.security.tokens import FILE as TOKENS_FILE
from router.process.backup_schedule import BackupReport
from router.storage.backups.making import BackupMade, BackupMaker
from router.storage.backups.targets import (
    BackupTarget,
    DirectoryTarget,
    KeepPolicy,
    S3Target,
    file_name,
    is_s3,
    open_s3,
    time_of,
)
from router.storage.commit_log.interface import ReplicatedLog
from router.storage.commit_log.seals import ClusterKeys
from router.storage.encryption import is_key_missing, load_secrets_key, require_secrets_key

LOWEST_PRIORITY: Final = 19  # niceness
WORK: Final = ".s3.backup"  # directory of files on their way to or from a bucket

log = logs.get_logger(__name__)


def lower_priority() -> None:
    """Let everything else on this machine go first, if that is permitted."""
    with suppress(OSError):
        os.nice(LOWEST_PRIORITY)


def key_of(settings: RouterSettings) -> bytes | None:
    """Return the key of secrets; None: there is none. Blocks."""
    if is_key_missing(settings.data_dir, settings.secrets_key):
        return None
    return load_secrets_key(settings.data_dir, settings.secrets_key)


@contextmanager
def connected(settings: RouterSettings, url: str, purpose: str, *, create: bool = False) -> Iterator[ReplicatedLog]:
    """Connect to a log for a while, beside its routers."""
    from router.storage.commit_log import jetstream  # noqa: PLC0415 - the client of NATS is large

    keys = ClusterKeys(require_secrets_key(settings.data_dir, settings.secrets_key))
    replicated = jetstream.connect(
        url,
        keys,
        router=f"{purpose}-{os.getpid()}",
        create=create,
        creds_file=settings.nats_creds_file,
        ca_file=settings.nats_ca_file,
    )
    with closing(replicated):
        yield replicated


def make_backup(
    settings: RouterSettings, target: Path, *, storage: str = "", report: Callable[[str], None] | None = None
) -> BackupMade:
    """Back up what a router with these settings serves, or another storage, to a file. Blocks; see `BackupMaker`.

    `report` is called with each line of progress.
    """
    maker = BackupMaker(tokens=settings.data_dir / TOKENS_FILE, key=key_of(settings), report=report or log.debug)
    database = settings.database(storage)
    if database is not None:
        return maker.of_database(database, target)
    with connected(settings, storage or settings.storage, "backup") as replicated:
        return maker.of_log(replicated, target)


def open_target(settings: RouterSettings, target: str) -> BackupTarget:
    return s3_target(settings, target) if is_s3(target) else DirectoryTarget(Path(target))


def s3_target(settings: RouterSettings, url: str) -> S3Target:
    return open_s3(url, settings.data_dir / WORK)


def remove_surplus(settings: RouterSettings, target: BackupTarget, made: str) -> list[str]:
    """Remove the backups that the settings do not keep, after one was made, and return their names. Blocks."""
    policy = KeepPolicy(settings.backup_keep_last, settings.backup_keep_daily, settings.backup_keep_weekly)
    surplus = policy.surplus(target.names(), made)
    for name in surplus:
        target.remove(name)
    return surplus


def _run(settings: RouterSettings, *, make: bool) -> BackupReport:
    newest = 0
    try:
        target = open_target(settings, settings.backup_target)
        newest = max((found for name in target.names() if (found := time_of(name)) is not None), default=0)
        if make:
            started = time.time()
            name = file_name(started)
            where = target.store(name, lambda path: make_backup(settings, path))
            newest = int(started)
            removed = remove_surplus(settings, target, name)
            log.info("backup made", where=where, seconds=round(time.time() - started, 1), removed=len(removed))
    except FlowhookError as error:
        return BackupReport(newest, f"{error.message} ({error.reason})")
    except OSError as error:
        return BackupReport(newest, os.strerror(error.errno or 0))
    return BackupReport(newest)


def main(arguments: Sequence[str]) -> None:
    """Run as a child of a router: `PARENT DESCRIPTOR ACTION`."""
    parent, descriptor, action = arguments
    if sys.platform.startswith("linux"):
        die_with_parent(int(parent))  # the next one would be refused while this one works
    lower_priority()
    settings = RouterSettings()
    logs.configure(level=settings.log_level, log_format=settings.log_format)
    with os.fdopen(int(descriptor), "wb") as out:
        out.write(orjson.dumps(asdict(_run(settings, make=action == "make"))))


if __name__ == "__main__":
    main(sys.argv[1:])
