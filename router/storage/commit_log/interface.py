"""Protocols of the replicated log, of the heartbeats of routers, and of the object store.

All methods block and may be called from any thread but that of an event loop, unless they say otherwise.

Source: docs/adr/0005-replicated-log.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import attrs

from flowhook.errors import ConflictError, UnavailableError
from flowhook.model.cluster import LogServerInfo
from router.storage.commit_log.refusals import Refusals


class FencedError(UnavailableError):
    """Another writer appended: the caller is not the owner any more, and none of its later appends will succeed.

    For callers of the router it is "unavailable", because the new owner will answer them.
    """

    default_reason = "SHARD_LOST"


class AppendAbandonedError(UnavailableError):
    """The append was given up by `stop` while no quorum answered: it may still become part of the log, or not."""

    default_reason = "APPEND_ABANDONED"


class LogTrimmedError(Exception):
    """Records after the requested position were purged; `first`: position of the oldest that is still there."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the log begins at position {first}")
        self.first = first


class LogReplacedError(ConflictError):
    """The log is not the one that was opened: it was deleted and created again, or lost records it had acknowledged."""

    default_reason = "LOG_REPLACED"


class ObjectDamagedError(UnavailableError):
    """An object is not what was stored under its name."""

    default_reason = "OBJECT_DAMAGED"


OUTCOME_UNKNOWN: Final = frozenset({FencedError.default_reason, AppendAbandonedError.default_reason})
"""Reasons of errors after which a write may be in effect all the same, with the next owner."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record."""

    position: int  # from 1, without gaps
    batch_id: str  # identity that its writer gave it; unique within the log
    data: bytes
    # nobody has written it at this position who has the key of this log: it has no content, and changes nothing.
    # It counts as a position
    void: bool = False
    damaged: bool = False  # it is void, but its identity is authentic: it may be what a router has stored


@dataclass(frozen=True, slots=True)
class LogStatus:
    """State of the log, for operators."""

    first_position: int  # the oldest position that was not purged; `last_position + 1` when all were
    last_position: int  # 0: nothing was ever appended
    size: int  # bytes that it has
    max_size: int | None  # most bytes that it may have; None: unlimited
    servers: tuple[LogServerInfo, ...]  # the servers that hold it, by name


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the store."""

    name: str
    size: int  # bytes that it has
    create_time: float  # when it was stored (s since the epoch), by the clock of the router that did


class CommitLog(Protocol):
    """An ordered log with one writer at a time, who is fenced by the position that it expects to follow.

    Its records are authentic, whatever its servers do: others are void.

    Every method may raise:
        UnavailableError: the log can't be reached, or has no quorum (`LOG_UNAVAILABLE`).
        LogReplacedError: see there.
    """

    @property
    def identity(self) -> str:
        """Identity of this log's life: that of a deleted and recreated one differs."""

    @property
    def max_record_bytes(self) -> int:
        """Largest `data` that `append` takes."""

    def append(self, expected: int, batch_id: str, data: bytes, *, stop: threading.Event | None = None) -> int:
        """Append a record and return its position, once a quorum has it on stable storage.

        That is `expected + 1`, or a later one, if all records in between are void. Retries the same bytes under the
        same identity until the outcome is known: it never guesses.

        Args:
            expected: position of the last record that the caller knows; 0: the log is empty.
            batch_id: identity of the record, which no other append has, by whichever process.
            data: content.
            stop: gives up waiting for an outcome once it is set.

        Raises:
            FencedError: another record, which is not void, was appended before; this one was not.
            AppendAbandonedError: `stop` was set; whether the record was appended is unknown.
            ExhaustedError: the log is full (`LOG_FULL`); nothing was appended.
        """

    def tail(self) -> LogRecord | None:
        """Return the last record as its leader knows it, or None when nothing was ever appended.

        When everything was purged, its `batch_id` and `data` are empty. It may be void.
        """

    def read(self, after: int, *, wait_seconds: float = 0.0) -> Iterator[LogRecord]:
        """Yield the records after a position, in order and without a gap, void ones included.

        With `wait_seconds`, it waits so long for the first one, and may end before the last. Raises LogTrimmedError if
        the record at `after + 1` was purged.
        """

    def purge(self, through: int) -> None: ...

    def room(self) -> int | None:
        """Return the bytes that may still be appended, by the last known state of the log; None: unlimited. No I/O."""

    @property
    def max_bytes(self) -> int | None:
        """Most bytes that the log may have; None: unlimited. No I/O."""

    def status(self) -> LogStatus:
        """Return its state; without an answer for some seconds the last that was known, with no server `current`."""


class Heartbeats(Protocol):
    """Announces that this router is alive, and receives the same from others. Ownership is decided by the log alone.

    Only what a router of this log sent while this one ran counts: what is forged, or repeated, is silence. Silence is
    measured by this machine's monotonic clock, so that clocks may differ.
    """

    def publish(self, content: bytes) -> None:
        """Send this router's content to the others, at most 4 KiB. May be called from an event loop; never raises."""

    def heard(self) -> dict[str, tuple[float, bytes]]:
        """Return what other routers sent last, by their names, with its time (s, `time.monotonic`). No I/O.

        A router is heard once it has heard this one: call `publish` meanwhile.
        """

    def seen(self) -> dict[str, float]:
        """Return when each router was heard last, also if it has not heard this one, or was recorded. No I/O."""

    def namesake(self) -> float:
        """Return when another router of this one's name was heard last (s, `time.monotonic`); 0: never. No I/O."""


class ObjectStore(Protocol):
    """Large objects: snapshots and bodies. Names consist of letters, digits, `-`, `_`, `.` and `/`.

    Every method may raise UnavailableError (`LOG_UNAVAILABLE`).
    """

    def put(self, name: str, path: Path) -> None:
        """Store the file at `path`, replacing an object of that name. Durable when it returns."""

    def get(self, name: str, path: Path) -> bool:
        """Write an object to a new file at `path` (mode 0600), verified by its checksum; false if absent.

        Raises ObjectDamagedError if its checksum does not match; no file is left.
        """

    def delete(self, name: str) -> None: ...

    def names(self, prefix: str) -> list[str]:
        """Return the names of the objects that begin with `prefix`, ascending."""

    def stored(self, prefix: str) -> list[StoredObject]:
        """Return the objects whose names begin with `prefix`, by ascending name."""

    def remove_orphans(self, *, older_than: float) -> int:
        """Remove what routers that died while they stored an object left, `older_than` seconds ago; return how many."""


class ClusterFacts(Protocol):
    """Small values on which all routers must agree: such as which key encrypts secrets."""

    def get(self, name: str) -> str | None:
        """Return the value of `name`; None if absent. Raises as `agree` does."""

    def agree(self, name: str, value: str) -> str:
        """Return the value of `name`, after storing `value`, which has no blanks, if there was none.

        Raises:
            ConflictError: what is stored is not of a router with this key (`SECRETS_KEY_DIFFERS`, `LOG_FACT_FORGED`).
        """

    def replace(self, name: str, value: str) -> None:
        """Store `value` in place of what is there: for an operator who has decided it."""


@attrs.define(eq=False, repr=False, kw_only=True)
class ReplicatedLog:
    """Everything that a router uses of a log's system, over one connection: opened by its factory."""

    log: CommitLog
    heartbeats: Heartbeats
    objects: ObjectStore
    facts: ClusterFacts
    refusals: Refusals
    close: Callable[[], None]
    """Disconnects. Calls in progress fail. Idempotent."""
