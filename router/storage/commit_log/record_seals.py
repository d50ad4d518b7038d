"""Seals the records of a log, each for its position; and tells what nobody who has a key has written there.

A record is sealed with the identity of the log, its position and its batch ID, so that it opens nowhere else: a record
that was recorded and is sent again is as void as one that was made up. The epoch and the hash of the record before are
in the content.

The message ID by which servers look for duplicates has a code of its own. It can't be guessed: a server would answer to
a record whose ID it knows already as if it had stored it. And it tells a record that was damaged from one that was made
up: both parts would have to be damaged. Who sees a record on its way can copy its ID, but to that position alone.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from router.storage.commit_log.interface import LogRecord
from router.storage.commit_log.keys import ClusterKeys
from router.storage.commit_log.sealing import NotAuthenticError, Sealer

CODE_BYTES: Final = 16


class RecordSeals(Protocol):
    """Converts records to messages of a server, and back."""

    def seal(self, position: int, batch_id: str, data: bytes) -> tuple[str, bytes]:
        """Return the message ID and the content of a record that is to get a position."""
        ...

    def open(self, position: int, message_id: str, content: bytes) -> LogRecord:
        """Return the record of a message that a server has at a position; if it is not authentic, it is void."""
        ...


class SealedRecords:
    """Records as routers write and read them.

    Args:
        keys: of the cluster.
        log: identity of the log.
        shard: from 0.
    """

    def __init__(self, keys: ClusterKeys, log: str, *, shard: int = 0) -> None:
        context = f"{shard}\0{log}"
        self._sealer = Sealer(keys.derive("records", context))
        self._codes = keys.derive("record IDs", context)

    def seal(self, position: int, batch_id: str, data: bytes) -> tuple[str, bytes]:
        """See the protocol."""
        place = _place(position, batch_id)
        code = _code(self._codes.by_id[self._codes.newest], place)
        return f"{batch_id}:{code}", self._sealer.seal(data, place)

    def open(self, position: int, message_id: str, content: bytes) -> LogRecord:
        """See the protocol."""
        batch_id, _, code = message_id.rpartition(":")
        place = _place(position, batch_id)
        try:
            return LogRecord(position, batch_id, self._sealer.open(content, place))
        except NotAuthenticError:
            known = [hmac.compare_digest(_code(key, place), code) for key in self._codes.by_id.values()]
            return LogRecord(position, batch_id if any(known) else "", b"", void=True, damaged=any(known))


class PlainRecords:
    """Records of a log that an early version made, which did not seal it: for reading alone."""

    def seal(self, position: int, batch_id: str, data: bytes) -> tuple[str, bytes]:
        """Refuse: nothing is stored that is not sealed."""
        raise AssertionError(f"{batch_id} is not stored at {position}, {len(data)} bytes: records are sealed")

    def open(self, position: int, message_id: str, content: bytes) -> LogRecord:
        """See the protocol."""
        return LogRecord(position, message_id, content)


def _place(position: int, batch_id: str) -> bytes:
    return f"{position}\0{batch_id}".encode("utf-8", "replace")


def _code(key: bytes, place: bytes) -> str:
    return hmac.digest(key, place, "sha256")[:CODE_BYTES].hex()
