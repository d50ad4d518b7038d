"""The object store, in the format of JetStream's own, so that `nats object` lists and reads its objects.

nats-py's own `put` waits for each chunk of 128 KiB, its `get` waits for ever when a server is lost, and its `delete`
leaves a record behind for each object. Here, chunks are larger, several are on their way at once, reading polls, and
nothing is left. An object consists of chunks on a subject of its own, and of a description that is written last. The
chunks are sealed, and so `nats object get` gives bytes that only a router can use. The description need not be: with
another, the chunks don't open.

Source: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import attrs
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError
from typing_extensions import override

from flowhook.errors import InternalError, UnavailableError
from router.storage.commit_log.interface import ObjectDamagedError, ObjectStore, StoredObject
from router.storage.commit_log.jetstream.connection import PAUSE_SECONDS, LogConnection
from router.storage.commit_log.jetstream.streams import messages_after
from router.storage.commit_log.refusals import Refusals, RefusedKind
from router.storage.commit_log.seals import ChunkPlace, NotAuthenticError, ObjectSeals

CHUNK_BYTES: Final = 512 << 10
IN_FLIGHT: Final = 4
PUBLISH_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 30.0
"""How long requests are repeated while servers fail: longer than the election of a leader takes."""
SWEEP_SECONDS: Final = 3600.0  # how often a router that stores large objects looks for chunks that belong to none
ORPHAN_SECONDS: Final = 7200.0  # chunks that are younger may belong to an object that is being stored
OBJECT_HEADER: Final = "Fh-Object"  # names the object in each of its chunks
GET_LOOKS: Final = 20
SUBJECTS_A_PAGE: Final = 100_000
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,256}", re.ASCII)
_CHUNKS_ID = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Description:
    chunks_id: str
    size: int
    chunks: int
    create_time: float
    deleted: bool


@attrs.define(eq=False, repr=False)
class JetStreamObjects(ObjectStore):
    """A bucket."""

    _connection: LogConnection
    _bucket: str
    _seals: ObjectSeals
    _refusals: Refusals
    _sweep_at: float = attrs.field(init=False, default=0.0)

    @property
    def _stream(self) -> str:
        return f"OBJ_{self._bucket}"

    @override
    def put(self, name: str, path: Path) -> None:
        former = self._describe(name)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:  # starts over, under another chunk subject, when a chunk was not acknowledged
            chunks_id = uuid.uuid4().hex
            try:
                self._publish_description(name, chunks_id, *self._put_chunks(name, chunks_id, path))
                break
            except UnavailableError:
                with contextlib.suppress(UnavailableError):
                    self._purge(self._chunks(chunks_id))
                if self._connection.closed or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
        if former:
            self._purge(self._chunks(former.chunks_id))
        if path.stat().st_size > CHUNK_BYTES and time.monotonic() > self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            with contextlib.suppress(UnavailableError):
                self.remove_orphans()

    @override
    def get(self, name: str, path: Path) -> bool:
        while described := self._describe(name):
            with contextlib.ExitStack() as undo:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                undo.callback(path.unlink)
                number, cause = 0, "chunks are missing"
                with os.fdopen(descriptor, "wb") as file, contextlib.suppress(NotAuthenticError):
                    for stored in self._get_chunks(described):
                        place = ChunkPlace(name, described.chunks_id, described.chunks, number)
                        cause = f"chunk {number + 1} of {described.chunks} is not what a router has stored there"
                        file.write(self._seals.open(place, stored))
                        number += 1
                if number and number == described.chunks:
                    undo.pop_all()
                    return True
            if self._describe(name) == described:  # else it was replaced meanwhile
                self._refusals.add(RefusedKind.OBJECT, name, cause)
                raise ObjectDamagedError(f"the object {name} is not what was stored: {cause}")
        return False

    @override
    def delete(self, name: str) -> None:
        described = self._describe(name, deleted=True)
        if described:
            # first it is gone for readers; what a crash leaves after that, the next call removes
            self._publish_description(name, described.chunks_id, 0, 0, "", deleted=True)
            self._purge(self._chunks(described.chunks_id))
            self._purge(self._description(name))

    @override
    def names(self, prefix: str) -> list[str]:
        names = map(_name_of, self._subjects(self._description_prefix + ">"))
        return sorted(name for name in names if name and name.startswith(prefix))

    @override
    def stored(self, prefix: str) -> list[StoredObject]:
        described = ((name, self._describe(name)) for name in self.names(prefix))
        return [StoredObject(name, found.size, found.create_time) for name, found in described if found]

    @override
    def remove_orphans(self, *, older_than: float = ORPHAN_SECONDS) -> int:
        orphans = set(self._subjects(self._chunks(">"))) - self._described_chunks()
        return sum(self._remove_orphan(subject, older_than) for subject in orphans)

    def _described_chunks(self) -> set[str]:
        """Return the subjects of chunks that objects have, or had a moment ago: any replica answers."""
        found: set[str] = set()
        after = 0
        while messages := self._connection.call(
            messages_after(self._connection, self._stream, self._description_prefix + ">", after)
        ):
            described = (_parse_description(message.data) for message in messages)
            found.update(self._chunks(each.chunks_id) for each in described if each)
            after = messages[-1].position
        return found

    def _remove_orphan(self, subject: str, older_than: float) -> bool:
        """Remove chunks, if the stream's leader confirms that their object has others."""

        async def first() -> RawStreamMsg | None:
            with contextlib.suppress(NotFoundError):
                return await self._connection.jetstream.get_msg(self._stream, 1, subject, next=True)
            return None

        chunk = self._persist(first)
        name = str(((chunk and chunk.headers) or {}).get(OBJECT_HEADER, ""))
        if not chunk or not chunk.time or time.time() - chunk.time.timestamp() < older_than:
            return False
        if not _NAME.fullmatch(name):  # no router has stored it
            return False
        described = self._describe(name, deleted=True)
        if described and self._chunks(described.chunks_id) == subject:
            return False
        self._purge(subject)
        return True

    def _put_chunks(self, name: str, chunks_id: str, path: Path) -> tuple[int, int, str]:
        """Store the chunks of a file, which does not change; return their size, number and digest, as stored."""
        digest, size = hashlib.sha256(), 0
        chunks = max(1, -(-path.stat().st_size // CHUNK_BYTES))
        waiting: deque[concurrent.futures.Future[object]] = deque()
        subject = self._chunks(chunks_id)
        try:
            with path.open("rb", buffering=0) as file:
                for index in range(chunks):
                    place = ChunkPlace(name, chunks_id, chunks, index)
                    sealed = self._seals.seal(place, file.read(CHUNK_BYTES))
                    digest.update(sealed)
                    size += len(sealed)
                    waiting.append(self._connection.submit(self._publish(name, subject, sealed)))
                    if len(waiting) == IN_FLIGHT:
                        self._connection.result(waiting.popleft())
            while waiting:
                self._connection.result(waiting.popleft())
        finally:
            concurrent.futures.wait(waiting)  # so that none is stored after what was stored is removed
        return size, chunks, "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode()

    def _get_chunks(self, described: _Description) -> Iterator[bytes]:
        """Yield the chunks, asking for the next ones while the caller works on some; ends early if some are missing."""
        found, last, looks, subject = 0, 0, 0, self._chunks(described.chunks_id)
        following = self._connection.submit(messages_after(self._connection, self._stream, subject, 0))
        while found < described.chunks and looks < GET_LOOKS:
            chunks = self._connection.result(following)
            found += len(chunks)
            looks = 0 if chunks else looks + 1  # a replica may be behind
            last = chunks[-1].position if chunks else last
            if found < described.chunks:
                following = self._connection.submit(messages_after(self._connection, self._stream, subject, last))
            for chunk in chunks:
                yield chunk.data

    def _describe(self, name: str, *, deleted: bool = False) -> _Description | None:
        """Return the description of an object, by the stream's leader; None if absent."""
        if not _NAME.fullmatch(name):
            raise InternalError(f"{name!r} is not the name of an object")

        async def last() -> bytes:
            try:
                found = await self._connection.jetstream.get_last_msg(self._stream, self._description(name))
            except NotFoundError:
                return b""
            return found.data or b""

        data = self._persist(last)
        if not data:
            return None
        described = _parse_description(data)
        if described is None:
            self._refusals.add(RefusedKind.OBJECT, name, "its description is none that a router has stored")
            return None
        return None if described.deleted and not deleted else described

    def _publish_description(
        self, name: str, chunks_id: str, size: int, chunks: int, digest: str, *, deleted: bool = False
    ) -> None:
        description = {
            "name": name,
            "bucket": self._bucket,
            "nuid": chunks_id,
            "size": size,
            "chunks": chunks,
            "digest": digest,
            "mtime": datetime.now(UTC).isoformat(),
            "options": {"max_chunk_size": CHUNK_BYTES},
            **({"deleted": True} if deleted else {}),
        }
        subject, data = self._description(name), json.dumps(description).encode()
        self._persist(
            lambda: self._connection.jetstream.publish(
                subject, data, timeout=PUBLISH_SECONDS, headers={"Nats-Rollup": "sub"}
            )
        )

    async def _publish(self, name: str, subject: str, chunk: bytes) -> object:
        # not repeated: a chunk that was stored twice, or after a later one, would damage the object
        return await self._connection.jetstream.publish(
            subject, chunk, timeout=PUBLISH_SECONDS, headers={OBJECT_HEADER: name}
        )

    def _subjects(self, pattern: str) -> list[str]:
        """Return the subjects that have messages, by the stream's leader."""
        found: list[str] = []

        async def page() -> list[str]:
            request = json.dumps({"subjects_filter": pattern, "offset": len(found)}).encode()
            answer = await self._connection.client.request(
                f"$JS.API.STREAM.INFO.{self._stream}", request, timeout=PUBLISH_SECONDS
            )
            info = json.loads(answer.data)
            if "error" in info:
                raise APIError.from_error(info["error"])
            return list(info["state"].get("subjects") or ())

        while subjects := self._persist(page):
            found += subjects
            if len(subjects) < SUBJECTS_A_PAGE:
                break
        return found

    def _purge(self, subject: str) -> None:
        self._persist(lambda: self._connection.jetstream.purge_stream(self._stream, subject=subject))

    def _persist(self, operation: Callable[[], Awaitable[T]]) -> T:
        return self._connection.call(self._connection.persist(operation, seconds=PATIENCE_SECONDS))

    def _chunks(self, chunks_id: str) -> str:
        return f"$O.{self._bucket}.C.{chunks_id}"

    @property
    def _description_prefix(self) -> str:
        return f"$O.{self._bucket}.M."

    def _description(self, name: str) -> str:
        return self._description_prefix + base64.urlsafe_b64encode(name.encode()).decode()


def _parse_description(data: bytes) -> _Description | None:
    """Return the description of an object, which anybody may have stored; None: it is none."""
    try:
        info = json.loads(data)
        described = _Description(
            str(info["nuid"]),
            int(info.get("size", 0)),
            int(info.get("chunks", 0)),
            datetime.fromisoformat(info["mtime"]).timestamp(),
            bool(info.get("deleted", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return described if _CHUNKS_ID.fullmatch(described.chunks_id) else None


def _name_of(subject: str) -> str:
    try:
        name = base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    except ValueError:
        return ""
    return name if _NAME.fullmatch(name) else ""
