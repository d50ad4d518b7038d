"""Request bodies that are uploaded in chunks, and stored as files among the blobs, separately from their events.

A body is *under way* while it is uploaded, *waiting* once it is durable, and *named* when an event that refers to it
was appended (`NewEvent.body`). A named body lives as long as the executions whose events name it. Bodies that are under
way or waiting do not survive the process that received them: the list of waiting bodies is in memory only, and after a
restart their files are removed like all files that no row refers to. Appending an event that names a body *claims* it,
so that it is neither removed nor forgotten before the result is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from typing import Final, NamedTuple, ParamSpec, TypeVar

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.security.private_files import open_private
from flowhook.sharing import Seat
from router.storage.blobs import BlobDirectory, body_file, check_room, sync
from router.storage.errors import StorageError, translate

SYNC_BYTES: Final = 16 * limits.MIB
"""Bytes written between two syncs: one large sync at the end would delay the commits of events."""
THREADS: Final = 4
"""Threads that write and read bodies and large payloads; more of them do not make a disk faster.

They are not those of the event loop's default executor: an object store without a quorum may occupy all of them.
"""
_invalid: Final = partial(InvalidError, reason="UPLOAD_INVALID")

P = ParamSpec("P")
T = TypeVar("T")


class BodyStore:
    """The store of bodies. Its methods and those of uploads and readers may raise UnavailableError (see `Storage`)."""

    def __init__(self, directory: BlobDirectory) -> None:
        self.directory = directory
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-body")
        self._under_way: set[BodyUpload] = set()
        self._waiting: dict[str, BodyUpload] = {}
        self._closed = False

    async def begin(self, flow_id: str, size: int | None, seat: Seat) -> BodyUpload:
        """Begin an upload of a body that an event of the flow may name; its declared size in bytes may be unknown.

        `seat` is what the body takes of a limit: its declared size, else it grows with what is received. It is released
        once an event names the body, or the body is removed.
        """
        upload = BodyUpload(self, flow_id, size, seat)
        self._under_way.add(upload)
        try:
            await self.run(upload.create)
        except BaseException:
            upload.discard()
            raise
        return upload

    def waiting(self, body_id: str, flow_id: str) -> BodyUpload | None:
        """Return the completed upload of a waiting body of the flow; None if absent."""
        found = self._waiting.get(body_id)
        return None if found is None or found.flow_id != flow_id else found

    def size_of(self, body_id: str) -> int:
        """Return the size of a body that is claimed."""
        return self._waiting[body_id].size

    def discard(self, body_id: str, flow_id: str) -> None:
        """Remove a waiting body of the flow, unless an event that names it is being appended."""
        found = self.waiting(body_id, flow_id)
        if found is not None and not found.claims:
            self._forget(found)
            self.later(self.directory.remove, [found.name])

    async def open(self, body_id: str) -> BodyReader | None:
        """Open a body that an event names; None when it was removed."""
        try:
            file = await self.run(lambda: self.directory.locate(body_file(body_id)).open("rb", buffering=0))
        except FileNotFoundError:
            return None
        return BodyReader(self, file)

    def sweep(self, *, seconds: float) -> int:
        """Remove bodies that have been waiting for longer than `seconds`, and return their number."""
        before = self._loop.time() - seconds
        old = [each for each in self._waiting.values() if each.finished_at <= before and not each.claims]
        for each in old:
            self.discard(each.id, each.flow_id)
        return len(old)

    def claim(self, body_id: str, flow_id: str) -> bool:
        """Retain a waiting body of the flow while an event naming it is appended; false if absent.

        Call `settle`, unless the result is unknown.
        """
        found = self.waiting(body_id, flow_id)
        if found is not None:
            found.claims += 1
        return found is not None

    def settle(self, body_id: str, *, named: bool, needed: bool = False) -> None:
        """Release a claim, with the result of the append: whether an event that names the body was stored.

        `needed`: the append failed but may be retried; otherwise the body is removed with its last claim.
        """
        found = self._waiting.get(body_id)
        if found is None:  # an event of another claim names it
            return
        found.claims -= 1
        if named:
            self._forget(found)
        elif not needed:
            self.discard(body_id, found.flow_id)

    def _forget(self, body: BodyUpload) -> None:
        """Remove a body from the waiting ones; its file stays."""
        self._waiting.pop(body.id).seat.release()
        self.directory.settle([body.name])

    def finished(self, upload: BodyUpload) -> None:
        """Turn a completed upload into a waiting body."""
        self._under_way.discard(upload)
        upload.finished_at = self._loop.time()
        self._waiting[upload.id] = upload

    def aborted(self, upload: BodyUpload) -> bool:
        """Remove an upload from those under way; false when it was not one of them."""
        found = upload in self._under_way
        self._under_way.discard(upload)
        return found

    async def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run a blocking function on a thread of the pool; all errors are translated, but FileNotFoundError."""
        if self._closed:
            raise StorageError("storage is closed")
        try:
            return await self._loop.run_in_executor(self._pool, lambda: function(*arguments, **keywords))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise translate(error) from error

    def later(self, function: Callable[P, object], *arguments: P.args, **keywords: P.kwargs) -> None:
        """Run a function in the background; its result is ignored."""
        if not self._closed:
            self._pool.submit(function, *arguments, **keywords)

    async def close(self) -> None:
        for upload in list(self._under_way):
            upload.discard()
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)


class BodyUpload:
    """A body being uploaded into storage; async methods must not be called concurrently.

    The file is written by one thread at a time. `discard` may be called at any time; the file then stays removed.
    """

    def __init__(self, bodies: BodyStore, flow_id: str, size: int | None, seat: Seat) -> None:
        self._bodies = bodies
        self._directory = bodies.directory
        self.id = secrets.token_hex(16)
        self.name = body_file(self.id)
        self._expected = size
        self.size = 0
        self.flow_id = flow_id
        self.seat = seat
        self.finished_at = 0.0  # time on the event loop's clock, from which on it waits for its event
        self.claims = 0  # number of events naming it that are being appended
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._complete = False
        self._removed = False
        self._lock = threading.Lock()

    async def write(self, data: bytes) -> None:
        """Append a chunk.

        Raises:
            InvalidError: the body is longer than declared, or than the limit (`UPLOAD_INVALID`).
            ExhaustedError: the caller has its share of the limit that the body takes bytes of.
        """
        size = self.size + len(data)
        if size > (self._expected or limits.MAX_STREAMED_BODY_BYTES):
            raise _invalid("the body is longer than announced, or than a body may be")
        if self._expected is None:
            self.seat.resize(size)
        self.size = size
        await self._bodies.run(self._append, data)

    async def finish(self) -> StoredBody:
        """Make the body durable; it is *waiting* for an event from now on.

        Raises:
            InvalidError: it is empty, or shorter than declared (`UPLOAD_INVALID`).
        """
        if not self.size or self._expected not in (None, self.size):
            raise _invalid("the body is empty, or shorter than announced")
        stored = StoredBody(self.id, self.size, await self._bodies.run(self._complete_file))
        self._bodies.finished(self)
        return stored

    def discard(self) -> None:
        """Abort the upload; its file is removed in the background. No effect once it is finished."""
        if self._bodies.aborted(self):
            self.seat.release()
            self._bodies.later(self._remove)

    def create(self) -> None:
        """Create the file; blocks, and may raise OSError, or StorageError if there is no room (`STORAGE_FULL`)."""
        with self._writing():
            path = self._directory.prepare(self.name)
            check_room(path.parent, self._expected or 0)
            self._descriptor = open_private(path, os.O_WRONLY | os.O_EXCL)

    def _append(self, data: bytes) -> None:
        with self._writing():
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._hash.update(data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_BYTES:
                os.fdatasync(self._descriptor)
                self._unsynced = 0
                check_room(self._directory.path(self.name).parent, 0)

    def _complete_file(self) -> bytes:
        with self._writing():
            os.fsync(self._descriptor)
            sync(self._directory.path(self.name).parent)
            self._close()
            self._complete = True
            digest = self._hash.digest()
        self._directory.publish(self.name)
        with self._writing():
            return digest

    def _remove(self) -> None:
        """Close and remove the file, as far as possible; the rest is swept when storage is next opened."""
        with self._lock, contextlib.suppress(OSError):
            self._removed = True
            self._close()
        if self._complete:
            self._directory.remove([self.name])
        else:
            self._directory.remove_file(self.name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._removed:
                raise OSError(errno.ECANCELED, "the upload was aborted")
            yield

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class BodyReader:
    """An open body of `size` bytes. It can be read to its end even if it is removed meanwhile."""

    def __init__(self, bodies: BodyStore, file: FileIO) -> None:
        self._bodies = bodies
        self._file = file
        self._lock = threading.Lock()  # a concurrent `close` could give the descriptor's number to another file
        self.size = os.fstat(file.fileno()).st_size

    async def read(self, offset: int, size: int) -> bytes:
        return await self._bodies.run(self._read, offset, size)

    def close(self) -> None:
        self._bodies.later(self._close)

    def _read(self, offset: int, size: int) -> bytes:
        with self._lock:
            return os.pread(self._file.fileno(), size, offset)

    def _close(self) -> None:
        with self._lock:
            self._file.close()


class StoredBody(NamedTuple):
    """A durable body. `id` can't be guessed; `sha256` has 32 bytes."""

    id: str
    size: int
    sha256: bytes
