"""Large payloads and bodies as files beside the database, or in an object store with these files as a cache.

A file is complete and synced before the transaction that refers to it begins. Its name has a random part, so that two
attempts to store one event never touch each other's file. Files that no row refers to (after a crash or a failed
transaction) are removed when storage is opened; objects that no row refers to are swept by the owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Final

import apsw
import attrs
from typing_extensions import override

from flowhook.errors import FlowhookError, InvalidError, UnavailableError
from flowhook.process import logs
from flowhook.security.private_files import make_directory, open_private
from router.storage.commit_log.interface import ObjectStore
from router.storage.errors import storage_full
from router.storage.limits import RESERVE_BYTES
from router.storage.readers import Readers

_SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class BlobDirectory:
    """Blob files of a directory, spread over 256 subdirectories. All methods block, but `settle`.

    They raise OSError, and UnavailableError where an object can't be stored, fetched or removed.
    """

    replicated = False  # whether the files are copies of objects that other routers read

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event_id: str, content: bytes) -> str:
        """Store content durably and return its name; if that fails, no file is left behind.

        Raises:
            InvalidError: the event's ID can't be part of a file name (`EVENT_ID_INVALID`).
        """
        if not _SAFE.match(event_id):
            raise InvalidError("an event ID must be letters, digits, _ and -", reason="EVENT_ID_INVALID")
        token = secrets.token_hex(8)
        name = f"{token[:2]}/{event_id}.{token[2:]}"
        path = self.prepare(name)
        try:
            descriptor = open_private(path, os.O_WRONLY | os.O_EXCL)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            sync(path.parent)
            self.publish(name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name

    def path(self, name: str) -> Path:
        return self._path / name

    def publish(self, name: str) -> None:
        """Make a complete and synced file as durable as a transaction that names it."""

    def settle(self, names: Iterable[str]) -> None:
        """Note that no transaction will name these blobs any more, unless one has."""

    def locate(self, name: str) -> Path:
        """Return the path of a file that a row names, to be read; it is fetched if it is missing."""
        return self.path(name)

    def prepare(self, name: str) -> Path:
        """Return the path of a file to be created, and create its directory."""
        path = self._path / name
        if not path.parent.is_dir():
            make_directory(self._path)
            sync(self._path.parent)
            make_directory(path.parent)
            sync(self._path)
        return path

    def read(self, name: str) -> bytes | None:
        """Return the content stored under a name, or None when it was removed."""
        try:
            return self.locate(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove blobs, as far as possible; `sweep` removes the rest when storage is next opened."""
        for name in names:
            self.remove_file(name)

    def erase(self, names: Iterable[str]) -> None:
        """Remove blobs so that not even a power loss brings them back.

        A file that can't be removed is removed when storage is next opened (`sweep`), an object by `ObjectSweep`.
        """
        for name in names:
            path = self._path / name
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync(path.parent)

    def remove_file(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._path / name).unlink()

    def sweep(self, known: Collection[str]) -> int:
        orphans = [name for path in self._path.glob("*/*") if (name := f"{path.parent.name}/{path.name}") not in known]
        for name in orphans:
            self.remove_file(name)
        return len(orphans)


def sync(path: Path) -> None:
    """Make a file, or the entries of a directory, durable (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


BODY_SUFFIX: Final = ".body"
BLOBS: Final = "blob/0/"  # beginnings of the names of the shard's objects
BODIES: Final = "body/0/"


class BlobCache(BlobDirectory):
    """Blobs in an object store, by the names `blob/<shard>/<name>` and `body/<shard>/<ID>`, and files that cache them.

    A blob is put into the object store before the transaction that names it begins. Until `settle` it counts as
    unsettled: it is removed by nobody, though no row names it.
    """

    replicated = True

    def __init__(self, path: Path, objects: ObjectStore) -> None:
        super().__init__(path)
        self._objects = objects
        self._unsettled: set[str] = set()
        self._lock = threading.Lock()

    @override
    def publish(self, name: str) -> None:
        with self._lock:
            self._unsettled.add(name)
        try:
            self._objects.put(self.object_name(name), self.path(name))
        except BaseException:
            self.settle([name])
            raise

    @override
    def settle(self, names: Iterable[str]) -> None:
        with self._lock:
            self._unsettled.difference_update(names)

    @override
    def locate(self, name: str) -> Path:
        path = self.path(name)
        if path.exists():
            return path
        self.prepare(name)
        check_room(path.parent, 0)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            if self._objects.get(self.object_name(name), temporary):
                sync(temporary)  # else a power loss could leave a file that is torn
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    @override
    def remove(self, names: Iterable[str]) -> None:
        names = list(names)
        super().remove(names)
        # `ObjectSweep` removes the objects that remain
        with contextlib.suppress(UnavailableError):  # the next ones would only wait for the same timeout
            for name in names:
                self._objects.delete(self.object_name(name))
        self.settle(names)

    @override
    def erase(self, names: Iterable[str]) -> None:
        names = list(names)
        super().erase(names)
        for name in names:
            self._objects.delete(self.object_name(name))
        self.settle(names)

    def stored(self) -> set[str]:
        blobs, bodies = self._objects.names(BLOBS), self._objects.names(BODIES)
        names = {name.removeprefix(BLOBS) for name in blobs}
        return names | {body_file(name.removeprefix(BODIES)) for name in bodies}

    def unsettled(self) -> set[str]:
        """Return the names of the blobs that a transaction may still name."""
        with self._lock:
            return set(self._unsettled)

    def object_name(self, name: str) -> str:
        if name.endswith(BODY_SUFFIX):
            return BODIES + name.removesuffix(BODY_SUFFIX).replace("/", "")
        return BLOBS + name


FIRST_SECONDS: Final = 3600.0  # between the start of the owner and its first sweep
SWEEP_SECONDS: Final = 24 * 3600.0  # between two sweeps
AGE_SECONDS: Final = 2 * 3600.0  # for how long an object was named by no row before it is removed

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class ObjectSweep:
    """Sweeps the object store, for the owner of the shard.

    A blob that a row names, or may come to name, is never removed. Only the shard's owner names blobs, and each of them
    under a name of its own. So the objects are listed first; then a transaction is appended to the log, which succeeds
    only if this router has been the owner all the time; and then those of the listed objects are spared that are still
    unsettled here, or named by a row. What remains can't be named by any later transaction, of whichever router.
    """

    _blobs: BlobCache
    _confirm_ownership: Callable[[], Awaitable[None]]
    """Commits a transaction, which fails unless this router is the owner."""
    _readers: Readers

    async def run_forever(self) -> None:
        """Sweep every day; when that fails, the next sweep tries again."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                removed = await self.sweep(age_seconds=AGE_SECONDS)
            except FlowhookError as error:
                log.warning("objects can't be swept", reason=error.reason)
            else:
                if removed:
                    log.info("objects removed that nothing refers to", objects=removed)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self, *, age_seconds: float) -> int:
        """Remove the objects that no row names now nor after a time; return their number.

        Raises FlowhookError if this router is not the owner, or the log or the object store can't serve.
        """
        unnamed = await self._unnamed()
        if unnamed:
            await asyncio.sleep(age_seconds)
            unnamed &= await self._unnamed()
            await asyncio.to_thread(self._blobs.remove, unnamed)
        return len(unnamed)

    async def _unnamed(self) -> set[str]:
        stored = await asyncio.to_thread(self._blobs.stored)
        await self._confirm_ownership()
        unsettled = self._blobs.unsettled()  # before the rows are read: what is settled from now on has its row
        return stored - unsettled - await self._readers.run(named_blobs)


def named_blobs(connection: apsw.Connection) -> set[str]:
    """Return the names of all blobs that rows name, bodies included."""
    names = {name for (name,) in connection.execute("SELECT name FROM blob")}
    names.update(body_file(body_id) for (body_id,) in connection.execute("SELECT id FROM body"))
    return names


def body_file(body_id: str) -> str:
    return f"{body_id[:2]}/{body_id[2:]}{BODY_SUFFIX}"


def check_room(directory: Path, size: int) -> None:
    """Raise StorageError (`STORAGE_FULL`) when the disk has no room for `size` bytes beside the reserve."""
    if free_bytes(directory) - size < RESERVE_BYTES:
        raise storage_full()


def free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
