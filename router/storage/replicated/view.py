"""Views: a router's own copy of the data, made of a snapshot and the records of the log after it.

A view is written without fsync. That loses nothing when a process dies, because the system still writes its pages; what
a power loss leaves may be torn, so a view that was written before the machine last booted is thrown away.
"""

from __future__ import annotations

import secrets
import time
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final, Self

import apsw

from flowhook.errors import ConflictError
from router.storage.blobs import BlobDirectory, named_blobs
from router.storage.erasure import Step, is_pending, is_under_way, last_erasure, wipe_step
from router.storage.replicated.batch import BatchPart
from router.storage.schema import connect_reader, connect_writer
from router.storage.vacuum import give_back

FILE: Final = "view.db"
LOCAL_TABLES: Final = frozenset({"applied", "rejection", "wipe"})
"""Tables that are not replicated: `rejection`, because attackers must not fill the log; and the states of this file."""
APPLIED: Final = """
CREATE TABLE IF NOT EXISTS applied (
  k INTEGER PRIMARY KEY CHECK (k = 1),
  log TEXT NOT NULL,
  position INTEGER NOT NULL,
  batch_id TEXT NOT NULL,
  last_hash BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  own INTEGER NOT NULL
) STRICT
"""
_THIS_PROCESS: Final = secrets.token_hex(16)
_COLUMNS: Final = "log, position, batch_id, last_hash, epoch, boot_id, own"


@dataclass(frozen=True, slots=True)
class ViewPosition:
    """What a view contains."""

    log: str  # identity of the log
    position: int = 0  # of the last record that it contains in full; 0: none
    batch_id: str = ""  # of that record; empty for none
    last_hash: bytes = b""  # `batch.record_hash` of it; empty for none
    epoch: int = 0  # number of the last ownership that it has records of
    boot_id: str = ""  # of the machine's boot in which it was last written
    own: bool = False  # whether this router wrote the last record itself, as the owner

    @classmethod
    def read(cls, connection: apsw.Connection) -> Self | None:
        try:
            row = connection.execute(f"SELECT {_COLUMNS} FROM applied").fetchone()  # noqa: S608 - constants
        except apsw.SQLError:  # no such table
            return None
        if row is None:
            return None
        log, position, batch_id, last_hash, epoch, boot, own = row
        return cls(log, position, batch_id, last_hash, epoch, boot, bool(own))

    def after(self, position: int, part: BatchPart, last_hash: bytes, *, own: bool = False) -> Self:
        """Return the position of a view that contains a record more."""
        epoch = part.ownership.epoch
        return replace(self, position=position, batch_id=part.batch_id, last_hash=last_hash, epoch=epoch, own=own)

    def write(self, connection: apsw.Connection) -> None:
        connection.execute(
            f"INSERT OR REPLACE INTO applied (k, {_COLUMNS}) VALUES (1, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
            astuple(self),
        )


class View:
    """The view in a directory, which one thread uses at a time; it is closed after construction."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def position(self) -> ViewPosition | None:
        """Return what the view contains; None: there is none that can be used."""
        if not self.path.exists():
            return None
        try:
            with self.connected() as connection:
                found = ViewPosition.read(connection)
        except (apsw.Error, ConflictError):  # such as one of another format
            return None
        return found if found is not None and found.boot_id == boot_id() else None

    def log(self) -> str:
        """Return the identity of the log that the file was made of, whether it can be used or not; empty: unknown."""
        if not self.path.exists():
            return ""
        try:
            with closing(apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
                found = ViewPosition.read(connection)
        except apsw.Error:
            return ""
        return "" if found is None else found.log

    def create(self, log: str) -> ViewPosition:
        """Create an empty view at position 0 of a log, in place of the one that is there."""
        self.discard()
        return self.adopt(ViewPosition(log))

    def adopt(self, position: ViewPosition) -> ViewPosition:
        """Record that the file, which may have been restored or be missing, is a view at a position; return that."""
        position = replace(position, boot_id=boot_id(), own=False)
        with self.connected() as connection:
            connection.execute(APPLIED)
            position.write(connection)
        return position

    def set_aside(self) -> Path:
        """Rename the file, so that nothing is lost that may be found nowhere else, and return its new path."""
        with self.connected() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        aside = self.path.with_name(f"{self.path.name}.{time.time_ns() // 1_000_000_000}")
        self.path.rename(aside)
        self.discard()
        return aside

    def discard(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def connected(self) -> closing[apsw.Connection]:
        return closing(connect_writer(self.path, durable=False))


def boot_id() -> str:
    """Return the identity of this machine's boot.

    Source: Linux, Documentation/admin-guide/sysctl/kernel.rst, `random`.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # elsewhere than on Linux: never trust a view of an earlier process
        return _THIS_PROCESS


CHECK_SECONDS: Final = 1.0  # between two looks whether anything was erased
STEP_SECONDS: Final = 0.05  # between two steps, in which records are applied


class Forgetting:
    """Removes what was erased from a view and the blobs beside it, on the thread that follows.

    The owner has no access to the files of a router that follows. The rows are gone with the record of the erasure.
    What is left is in the free space of the view, in cached blobs, and among the rejections from the time when this
    router was the owner, which are in no log.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._blobs = BlobDirectory(view.path.parent / "blobs")
        self._free = 0  # pages that are still to be given back

    def step(self, connection: apsw.Connection) -> float:
        """Remove some of what was erased, and return after how many seconds to go on. Blocks for about 10 ms.

        If there is nothing to remove, it gives back free space.
        """
        if not is_pending(connection):
            self._free = give_back(connection, begin=not self._free)
            return STEP_SECONDS if self._free else CHECK_SECONDS
        if not is_under_way(connection):
            # nobody sees them while this router follows; which of them are of the erased requests, only the owner knew
            connection.execute(
                "DELETE FROM rejection WHERE flow_id IN (SELECT flow_id FROM erasure"
                " WHERE number > coalesce((SELECT done FROM wipe), 0))"
            )
            with suppress(OSError):  # they are swept when this router is the owner
                self._blobs.sweep(named_blobs(connection))
        return CHECK_SECONDS if wipe_step(self._view.path) is Step.DONE else STEP_SECONDS


def read_last_erasure(view: View) -> int:
    """Return the number of the last erasure that a view, which may be in use, contains; 0 if absent. Blocks."""
    if not view.path.exists():
        return 0
    try:
        with closing(connect_reader(view.path)) as connection:
            return last_erasure(connection)
    except apsw.Error:  # it is being made or replaced
        return 0
