"""Applies the records of the log to a view, in order and without a gap: those that are read together, together.

A request for records, and a transaction of SQLite, cost the same however many records they have. So while records
arrive, they are read every `PAUSE_SECONDS`; one that comes after a silence is applied at once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import apsw
import attrs

from flowhook.errors import ConflictError, FlowhookError, UnavailableError
from router.storage.commit_log.interface import CommitLog, LogRecord, LogReplacedError, LogTrimmedError
from router.storage.errors import translate
from router.storage.replicated.batch import BatchPart, RecordUnknownError, decode, join, record_hash
from router.storage.replicated.view import View, ViewPosition
from router.storage.schema import FORMAT_VERSION

WAIT_SECONDS: Final = 0.1  # how long one read of the log waits for records
PAUSE_SECONDS: Final = 0.05  # between two reads that find records
TRANSACTION_RECORDS: Final = 256  # most records that are applied in one transaction
CATCH_UP_SECONDS: Final = 5.0  # how long a record is asked for that the log must have
PENDING_RECORDS: Final = 256  # most parts of one transaction


class ViewDivergedError(ConflictError):
    """A record does not fit the view: the view is to be thrown away, and restored."""

    default_reason = "VIEW_DIVERGED"


class LogDamagedError(ConflictError):
    """A record is void that the records after it follow, or that a router may have stored: the log lacks one.

    It is never passed over, because it may have been acknowledged. A view that has it, or a snapshot, has what it said.
    `position`: of the first record that is void.
    """

    default_reason = "LOG_DAMAGED"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@attrs.define(eq=False, repr=False)
class Follower:
    """Applies records to a view, on one thread.

    Void records are passed over, once the one behind them names the one before them as its predecessor: nothing that a
    router stored was among them. For example, `V` is a void record, and arrows name predecessors:

        1 <- 2    V    4 <- 5     4 names 2: somebody has written to position 3 who may not, and nothing is lost
        1 <- 2    V <- 4 <- 5     4 names what was at 3: the log lacks it, and following ends here

    What is public may be read by any thread.
    """

    _log: CommitLog
    _view: View
    position: ViewPosition
    """What the view contains."""
    _grew: Callable[[int], None] = attrs.field(default=lambda _bytes: None, kw_only=True)
    """Called with the bytes of each record that was applied."""
    _forget: Callable[[apsw.Connection], float] | None = attrs.field(default=None, kw_only=True)
    """Called between records with a connection; it removes from the view some of what was erased, and returns after how
    many seconds to call it again."""
    current: bool = attrs.field(init=False, default=False)
    """Whether it has reached the end that the log had when following began."""
    claim: int = attrs.field(init=False, default=0)
    """Position of the first record of the last ownership that it has read of; 0: it was read by another."""
    _forget_at: float = attrs.field(init=False, factory=time.monotonic)
    _target: int = attrs.field(init=False)
    _read: int = attrs.field(init=False)
    _hash: bytes = attrs.field(init=False)
    _parts: list[BatchPart] = attrs.field(init=False, factory=list)
    _last: BatchPart | None = attrs.field(init=False, default=None)
    _void: int = attrs.field(init=False, default=0)
    _damaged: int = attrs.field(init=False, default=0)
    _applied: ViewPosition | None = attrs.field(init=False, default=None)  # not committed yet
    _uncommitted: int = attrs.field(init=False, default=0)  # records

    def __attrs_post_init__(self) -> None:
        self._target = self._read = self.position.position
        self._hash = self.position.last_hash

    @property
    def epoch(self) -> int:
        last = self._last
        return self.position.epoch if last is None else max(self.position.epoch, last.ownership.epoch)

    def follow(self, stop: threading.Event) -> None:
        """Apply records until `stop` is set. Blocks.

        Raises:
            UnavailableError: the log can't be reached, or the view can't be written now.
            LogTrimmedError: records after the view were purged.
            LogReplacedError: the log is not the one that the view was made of.
            ViewDivergedError: the view does not fit the log.
            LogDamagedError: see there.
            RecordUnknownError: a record can't be read.
        """
        self._check()
        with self._opened() as connection:
            while not stop.is_set():
                read = self._read
                for record in self._log.read(read, wait_seconds=WAIT_SECONDS):
                    self._apply(connection, record)
                    if stop.is_set():
                        break
                self._commit(connection)
                self.current = self.current or self._read == read or self._read >= self._target
                if self._forget is not None and time.monotonic() >= self._forget_at:
                    self._forget_at = time.monotonic() + self._forget(connection)
                if 0 < self._read - read < TRANSACTION_RECORDS:
                    stop.wait(PAUSE_SECONDS)

    def catch_up(self, through: int) -> None:
        """Apply the records up to a position, at which the log has one. Blocks, and raises as `follow` does.

        A record in between that can't be read for `CATCH_UP_SECONDS` counts as unavailable.
        """
        self._check()
        with self._opened() as connection:
            read, since = self._read, time.monotonic()
            while self._read < through:
                if self._read > read:
                    read, since = self._read, time.monotonic()
                elif time.monotonic() - since > CATCH_UP_SECONDS:
                    raise UnavailableError(f"the log does not give the record at position {read + 1}")
                for record in self._log.read(self._read, wait_seconds=WAIT_SECONDS):
                    self._apply(connection, record)
                    if self._read == through:
                        break
                self._commit(connection)

    def end(self) -> ViewPosition:
        """Return the position from which an owner continues: after parts that will never be completed, too.

        Raises LogDamagedError if the log ends with a damaged record.
        """
        if self._damaged:
            raise LogDamagedError(f"the content of the last record, at {self._damaged}, is damaged", self._damaged)
        if self._read == self.position.position:
            return self.position
        if self._last is None:
            return replace(self.position, position=self._read, own=False)
        return self.position.after(self._read, self._last, self._hash)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[apsw.Connection]:
        try:
            with self._view.connected() as connection:
                try:
                    yield connection
                except (FlowhookError, LogTrimmedError):  # what was applied before is sound
                    self._commit(connection)
                    raise
        except (apsw.CorruptError, apsw.NotADBError):
            raise ViewDivergedError("the view is damaged") from None
        except apsw.Error as error:
            raise translate(error) from error

    def _check(self) -> None:
        position = self.position
        if position.log != self._log.identity:
            raise LogReplacedError("the log is not the one that this router followed: it was deleted and created again")
        tail = self._log.tail()
        self._target = 0 if tail is None else tail.position
        if position.position > self._target:
            raise LogReplacedError("the log ends before a record that it had acknowledged")
        if tail is None or tail.position != position.position:
            return
        if tail.void or tail.batch_id not in ("", position.batch_id):
            raise LogReplacedError("the log has another record where this router's last one was")

    def _apply(self, connection: apsw.Connection, record: LogRecord) -> None:
        if record.position != self._read + 1:
            raise ViewDivergedError(f"the log was read with a gap before position {record.position}")
        if record.void:
            self._read = record.position
            self._void = self._void or record.position
            self._damaged = self._damaged or (record.position if record.damaged else 0)
            return
        part = decode(record.data)
        self._check_part(part, record)
        self._void = self._damaged = 0
        if part.ownership.epoch > self.epoch:
            self.claim = record.position
        self._read, self._hash, self._last = record.position, record_hash(record.data), part
        if self._parts and not part.follows(self._parts[-1]):
            self._parts = []  # its owner ended before the last part
        if part.part != len(self._parts) or part.parts > PENDING_RECORDS:
            raise RecordUnknownError(f"the record {part.batch_id} of the log lacks an earlier part")
        self._parts.append(part)
        self._grew(len(record.data))
        if part.part + 1 == part.parts:
            parts, self._parts = self._parts, []
            self._apply_patchset(connection, parts, record)

    def _check_part(self, part: BatchPart, record: LogRecord) -> None:
        if part.previous != self._hash and self._void:
            raise LogDamagedError(
                f"the record at {record.position} follows one that does not open, at {self._void} or behind it",
                self._void,
            )
        if part.previous != self._hash:
            raise ViewDivergedError(f"the record at position {record.position} does not follow the view's last one")
        if part.ownership.schema != FORMAT_VERSION:
            raise RecordUnknownError(
                f"the log continues with database format {part.ownership.schema}: update this router"
            )
        before = self._last
        earlier = self.position.epoch if before is None else before.ownership.epoch
        same = before is None or part.ownership.writer == before.ownership.writer
        if part.ownership.epoch < earlier or (part.ownership.epoch == earlier and not same):
            raise ViewDivergedError(f"ownership {part.ownership.epoch} wrote at {record.position} after {earlier}")

    def _apply_patchset(self, connection: apsw.Connection, parts: list[BatchPart], record: LogRecord) -> None:
        patchset = join(parts)
        if self._applied is None:
            connection.execute("BEGIN IMMEDIATE")
        try:
            # any conflict is divergence: records are applied to exactly the rows that their owner had
            apsw.Changeset.apply(patchset, connection, conflict=lambda *_: apsw.SQLITE_CHANGESET_ABORT)
        except apsw.AbortError:
            raise ViewDivergedError(f"the view does not fit the record at position {record.position}") from None
        self._uncommitted += 1
        self._applied = self.position.after(record.position, parts[-1], self._hash)
        if self._uncommitted == TRANSACTION_RECORDS:
            self._commit(connection)

    def _commit(self, connection: apsw.Connection) -> None:
        """Commit what was applied, if anything; after an error, closing the connection rolls it back."""
        if self._applied is not None:
            self._applied.write(connection)
            connection.execute("COMMIT")
            self.position, self._applied, self._uncommitted = self._applied, None, 0
