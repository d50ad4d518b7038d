"""Bodies uploaded in chunks, stored as files among the blobs; implements `router.storage.bodies`.

The list of waiting bodies is in memory only: after a restart no event can name them any more, and their files are
removed like all files that no row refers to. Appending an event that names a body *claims* it, so that it is neither
removed nor forgotten before the result is known.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.sharing import Seat
from router.storage.bodies import BodyReader, BodyUpload, StoredBody
from router.storage.sqlite.blobs import BlobDirectory
from router.storage.sqlite.body_file import BodyFile, OpenBody
from router.storage.sqlite.errors import translate, unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 4
"""Threads that write and read bodies and large payloads; more of them do not make a disk faster.

They are not those of the event loop's default executor: an object store without a quorum may occupy all of them.
"""


def body_file(body_id: str) -> str:
    """Return the name of a body's file among the blobs."""
    return f"{body_id[:2]}/{body_id[2:]}.body"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A body that waits for its event.

    Attributes:
        since: time on the event loop's clock.
        seat: what it takes of the limit of its kind.
        claims: number of events naming it that are being appended.
        named: whether one of them was stored.
    """

    flow_id: str
    stored: StoredBody
    since: float
    seat: Seat
    claims: int = 0
    named: bool = False


class BodyClaim:
    """Retains a waiting body while an event naming it is appended. Call `settle`, unless the result is unknown."""

    def __init__(self, bodies: SqliteBodyStore, waiting: _Waiting) -> None:
        self._bodies = bodies
        self._waiting = waiting
        waiting.claims += 1

    @property
    def body_id(self) -> str:
        """ID of the body."""
        return self._waiting.stored.id

    def settle(self, *, named: bool, needed: bool = False) -> None:
        """Release the claim, with the result of the append.

        Args:
            named: an event that names the body was stored.
            needed: the append failed but may be retried; otherwise the body is removed with its last claim.
        """
        waiting = self._waiting
        waiting.claims -= 1
        if named and not waiting.named:
            waiting.named = True
            self._bodies.forget(waiting.stored)
        elif not (named or needed):
            self._bodies.discard(waiting.stored.id, waiting.flow_id)


class SqliteBodyStore:
    """The bodies beside one database; implements `bodies.BodyStore`."""

    def __init__(self, directory: BlobDirectory) -> None:
        self.directory = directory
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-body")
        self._under_way: set[_Upload] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._closed = False

    async def begin(self, flow_id: str, size: int | None, seat: Seat) -> BodyUpload:
        """See `bodies.BodyStore`."""
        upload = _Upload(self, flow_id, size, seat)
        self._under_way.add(upload)
        try:
            await self.run(upload.file.open, size or 0)
        except BaseException:
            upload.discard()
            raise
        return upload

    def waiting(self, body_id: str, flow_id: str) -> StoredBody | None:
        """See `bodies.BodyStore`."""
        found = self._waiting.get(body_id)
        return None if found is None or found.flow_id != flow_id else found.stored

    def discard(self, body_id: str, flow_id: str) -> None:
        """See `bodies.BodyStore`."""
        found = self._waiting.get(body_id)
        if found is not None and found.flow_id == flow_id and not found.claims:
            self.forget(found.stored)
            self.later(self.directory.remove, [body_file(body_id)])

    async def open(self, body_id: str) -> BodyReader | None:
        """See `bodies.BodyStore`."""
        try:
            return _StoredBodyReader(self, await self.run(self._open, body_file(body_id)))
        except FileNotFoundError:
            return None

    def sweep(self, *, seconds: float) -> int:
        """See `bodies.BodyStore`."""
        before = self._loop.time() - seconds
        old = [each for each in self._waiting.values() if each.since <= before and not each.claims]
        for each in old:
            self.discard(each.stored.id, each.flow_id)
        return len(old)

    def claim(self, body_id: str, flow_id: str) -> BodyClaim | None:
        """Claim a waiting body of the flow; None when there is none."""
        found = self._waiting.get(body_id)
        return None if found is None or found.flow_id != flow_id else BodyClaim(self, found)

    def forget(self, stored: StoredBody) -> None:
        """Remove a body from the waiting ones; its file stays."""
        self._waiting.pop(stored.id).seat.release()
        self.directory.settle([body_file(stored.id)])

    def finished(self, upload: _Upload, stored: StoredBody) -> None:
        """Turn a completed upload into a waiting body."""
        self._under_way.discard(upload)
        self._waiting[stored.id] = _Waiting(upload.flow_id, stored, self._loop.time(), upload.seat)

    def aborted(self, upload: _Upload) -> bool:
        """Remove an upload from those under way; false when it was not one of them."""
        if upload not in self._under_way:
            return False
        self._under_way.discard(upload)
        return True

    def _open(self, name: str) -> OpenBody:
        return OpenBody(self.directory.locate(name))

    async def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run a blocking function on a thread of the pool.

        Raises:
            FileNotFoundError: passed on unchanged.
            FlowhookError: the translation of any other error.
        """
        if self._closed:
            raise unavailable("storage is closed")
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
        """Abort uploads under way, and end the threads."""
        for upload in list(self._under_way):
            upload.discard()
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)


class _Upload:
    """Implements `bodies.BodyUpload`."""

    def __init__(self, bodies: SqliteBodyStore, flow_id: str, size: int | None, seat: Seat) -> None:
        self._bodies = bodies
        self._id = secrets.token_hex(16)
        self._expected = size
        self._size = 0
        self.flow_id = flow_id
        self.file = BodyFile(bodies.directory, body_file(self._id))
        self.seat = seat

    async def write(self, data: bytes) -> None:
        size = self._size + len(data)
        if size > (self._expected or limits.MAX_STREAMED_BODY_BYTES):
            raise _invalid("the body is longer than announced, or than a body may be")
        if self._expected is None:
            self.seat.resize(size)
        self._size = size
        await self._bodies.run(self.file.write, data)

    async def finish(self) -> StoredBody:
        if not self._size or self._expected not in (None, self._size):
            raise _invalid("the body is empty, or shorter than announced")
        stored = StoredBody(self._id, self._size, await self._bodies.run(self.file.finish))
        self._bodies.finished(self, stored)
        return stored

    def discard(self) -> None:
        if self._bodies.aborted(self):
            self.seat.release()
            self._bodies.later(self.file.remove)


class _StoredBodyReader:
    """Implements `bodies.BodyReader`."""

    def __init__(self, bodies: SqliteBodyStore, file: OpenBody) -> None:
        self._bodies = bodies
        self._file = file
        self.size = file.size

    async def read(self, offset: int, size: int) -> bytes:
        return await self._bodies.run(self._file.read, offset, size)

    def close(self) -> None:
        self._bodies.later(self._file.close)


def _invalid(what: str) -> InvalidError:
    return InvalidError(what, reason="UPLOAD_INVALID")
