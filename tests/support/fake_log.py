"""A commit log in memory, with scripted faults: what each append meets is decided by the test beforehand."""

from __future__ import annotations

import threading
from enum import StrEnum

from flowhook.errors import ExhaustedError, UnavailableError
from router.storage.commit_log.interface import (
    AppendAbandonedError,
    FencedError,
    LogRecord,
    LogReplacedError,
    LogStatus,
    LogTrimmedError,
)


class Fault(StrEnum):
    """What the next append meets."""

    NONE = "none"
    LOST_ACKNOWLEDGEMENT = "it is in the log; the first answer is lost, and the retry finds it"
    OTHER_WRITER = "another writer's record comes first"
    FULL = "the log is full"
    NO_QUORUM = "no answer until `stop` is set; it is not in the log"
    NO_QUORUM_BUT_IN = "no answer until `stop` is set; it is in the log"
    REPLACED = "the log was deleted and created again"
    DEFECT_BUT_IN = "an answer that the client does not understand; it is in the log"


class FakeLog:
    """Several writers and readers of one process may share it."""

    def __init__(self, identity="fake-1", max_record_bytes=768 * 1024, max_bytes=None):
        self.identity = identity
        self.max_record_bytes = max_record_bytes
        self.max_bytes = max_bytes
        self.faults = []
        self._records = []
        self._first = 1
        self._changed = threading.Condition()

    def append(self, expected, batch_id, data, *, stop=None):
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        if fault is Fault.FULL:
            raise ExhaustedError("the log is full", reason="LOG_FULL")
        if fault is Fault.REPLACED:
            raise LogReplacedError("the log was deleted and created again")
        if fault is Fault.DEFECT_BUT_IN:
            self.append(expected, batch_id, data)
            raise KeyError("seq")
        if fault is Fault.OTHER_WRITER:
            self.append(self._tail(), "other", b"")
        if fault in (Fault.NO_QUORUM, Fault.NO_QUORUM_BUT_IN):
            if fault is Fault.NO_QUORUM_BUT_IN:
                self.append(expected, batch_id, data)
            assert stop is not None
            stop.wait()
            raise AppendAbandonedError("no quorum answered")
        with self._changed:
            if any(not record.void or record.damaged for record in self._records if record.position > expected):
                raise FencedError("another writer appended")
            self._records.append(LogRecord(self._tail() + 1, batch_id, data))
            self._changed.notify_all()
            return self._tail()

    def forge(self):
        """Store what nobody wrote who has the key."""
        with self._changed:
            self._records.append(LogRecord(self._tail() + 1, "", b"", void=True))

    def spoil(self, position, *, damaged=True):
        """Let a record be read no more."""
        index = position - self._first
        batch_id = self._records[index].batch_id if damaged else ""
        self._records[index] = LogRecord(position, batch_id, b"", void=True, damaged=damaged)

    def _tail(self):
        return self._first - 1 + len(self._records)

    def tail(self):
        with self._changed:
            if self._records:
                return self._records[-1]
            return LogRecord(self._first - 1, "", b"") if self._first > 1 else None

    def read(self, after, *, wait_seconds=0.0):
        while True:
            with self._changed:
                if after < self._first - 1:
                    raise LogTrimmedError(self._first)
                if after > self._tail():
                    raise LogReplacedError("the log ends before that")
                if after == self._tail() and not (wait_seconds and self._changed.wait(wait_seconds)):
                    return
                records = self._records[after - self._first + 1 :]
            if not records:
                return
            yield from records
            if wait_seconds:
                return
            after = records[-1].position

    def purge(self, through):
        with self._changed:
            removed = max(0, min(through, self._tail()) - self._first + 1)
            del self._records[:removed]
            self._first += removed

    def room(self):
        return None if self.max_bytes is None else self.max_bytes - sum(len(each.data) for each in self._records)

    def status(self):
        size = sum(len(each.data) for each in self._records)
        return LogStatus(self._first, self._tail(), size, self.max_bytes, servers=())


class AwayLog(FakeLog):
    """A log that can't be reached."""

    def tail(self):
        raise UnavailableError("no quorum", reason="LOG_UNAVAILABLE")
