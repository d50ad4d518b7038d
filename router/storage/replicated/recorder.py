"""Appends each transaction of a shard's owner to the log, between its last statement and its COMMIT."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import apsw
import attrs
from typing_extensions import override

from flowhook.errors import ExhaustedError, FlowhookError, InternalError, UnavailableError
from router.storage.commit_log.interface import CommitLog, FencedError
from router.storage.errors import storage_full
from router.storage.replicated.batch import BatchPart, BatchWriter, encode, record_hash, split
from router.storage.replicated.view import LOCAL_TABLES, ViewPosition
from router.storage.schema import FORMAT_VERSION
from router.storage.writer import TransactionLog

MAX_RECORD_BYTES: Final = 768 * 1024  # larger transactions are appended in parts
RESERVED_SHARE: Final = 0.25  # share of the log's size that new events may not fill, so that accepted work can go on


@attrs.define(eq=False, repr=False)
class LogRecorder(TransactionLog):
    """A `TransactionLog` whose records go to a commit log; of one ownership, used by the writer thread.

    Once an append was refused, or its transaction failed to commit, all further transactions fail: this router does not
    know any more what the log contains, or is not the owner.
    """

    _log: CommitLog
    _applied: ViewPosition
    """What the view contains: at first, up to the log's end."""
    _lost: Callable[[FlowhookError], None] = attrs.field(kw_only=True)
    """Called once, on the writer thread, when the ownership has ended."""
    _now_ms: Callable[[], int] = attrs.field(kw_only=True)
    _grew: Callable[[int], None] = attrs.field(default=lambda _bytes: None, kw_only=True)
    """Called with the bytes of each record that was appended."""
    claim: int = attrs.field(init=False, default=0)
    """Position of the first record of this ownership; 0: none yet. May be read by any thread."""
    confirmed: float = attrs.field(init=False, default=0.0)
    """When the last append began that succeeded (s, `time.monotonic`); 0: none has. May be read by any thread."""
    _ownership: BatchWriter = attrs.field(init=False)
    _number: int = attrs.field(init=False, default=0)
    _max_bytes: int = attrs.field(init=False)
    _stop: threading.Event = attrs.field(init=False, factory=threading.Event)
    _session: apsw.Session | None = attrs.field(init=False, default=None)
    _connection: apsw.Connection | None = attrs.field(init=False, default=None)
    _appended: bool = attrs.field(init=False, default=False)
    _failure: FlowhookError | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._ownership = BatchWriter(0, self._applied.epoch + 1, secrets.token_bytes(16), FORMAT_VERSION)
        self._max_bytes = min(MAX_RECORD_BYTES, self._log.max_record_bytes)

    @property
    def position(self) -> int:
        """Position of the last record that was appended or found; may be read by any thread."""
        return self._applied.position

    def wrote(self, batch_id: str) -> bool:
        return batch_id.startswith(f"{self._ownership.epoch}:{self._ownership.writer.hex()}:")

    @property
    def epoch(self) -> int:
        return self._ownership.epoch

    def abandon(self) -> None:
        """Give up waiting for a log without a quorum: the transaction under way fails, and all later ones."""
        self._stop.set()

    @override
    def room(self) -> int | None:
        room, size = self._log.room(), self._log.max_bytes
        return None if room is None or size is None else max(0, room - int(size * RESERVED_SHARE))

    @override
    def begin(self, connection: apsw.Connection) -> None:
        if self._failure is not None:
            raise self._failure
        self._appended = False
        self._connection = connection
        self._session = apsw.Session(connection, "main")
        self._session.table_filter(lambda table: table not in LOCAL_TABLES)
        self._session.attach()

    @override
    def append(self) -> None:
        assert self._session is not None  # noqa: S101 - `begin` came before
        assert self._connection is not None  # noqa: S101
        patchset = self._session.patchset()
        self._close_session()
        if not patchset:
            return
        self._number += 1
        compressed, pieces = split(patchset, self._max_bytes)
        records: list[tuple[ViewPosition, bytes]] = []
        applied = self._applied
        now_ms = self._now_ms()
        for part, piece in enumerate(pieces):
            record = BatchPart(
                self._ownership, self._number, now_ms, part, len(pieces), applied.last_hash, compressed, piece
            )
            data = encode(record)
            applied = applied.after(applied.position + 1, record, record_hash(data), own=True)
            records.append((applied, data))
        # the positions are known in advance, unless void records lie between: after the append only COMMIT may fail
        applied.write(self._connection)
        for after, data in records:
            self._append(after, data)
        self._appended = True
        if self._applied != applied:
            self._applied.write(self._connection)

    @override
    def roll_back(self) -> FlowhookError | None:
        self._close_session()
        if not self._appended:
            return None
        self._fail(UnavailableError("a transaction is in the log, but not in this router's view"))
        return self._failure

    def _append(self, after: ViewPosition, data: bytes) -> None:
        """Append a record, after which the log ends at `after`, or behind it if it has void records."""
        start = time.monotonic()
        try:
            position = self._log.append(self._applied.position, after.batch_id, data, stop=self._stop)
        except ExhaustedError:
            # parts that are in the log already are void: the next transaction follows them
            raise storage_full() from None
        except UnavailableError as error:
            self._fail(error)
            raise
        except Exception as error:
            # the outcome is unknown, or the log is gone: for callers that is no fault of their calls
            self._fail(error if isinstance(error, FlowhookError) else InternalError(f"append: {type(error).__name__}"))
            raise FencedError("this router does not own the shard any more") from error
        self.confirmed = start
        self._grew(len(data))
        self._applied = replace(after, position=position)
        self.claim = self.claim or position

    def _fail(self, error: FlowhookError) -> None:
        if self._failure is None:
            self._failure = FencedError("this router does not own the shard any more")
            self._lost(error)

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
