"""The seam at which a transaction's changes leave the writer before they commit: a replicated log, or nothing."""

from __future__ import annotations

from typing import Protocol

import apsw

from flowhook.errors import FlowhookError


class TransactionLog(Protocol):
    """Records each transaction (writer thread): `begin`, then `append`; `roll_back` at any time undoes the rest.

    COMMIT comes after `append` and may fail, since it writes the file: then `roll_back` follows, though the log has the
    transaction. What is recorded can't be taken back, so an owner whose COMMIT failed has to read it from the log.
    """

    def begin(self, connection: apsw.Connection) -> None:
        """Record changes from now on; the transaction is about to begin, which may fail."""
        ...

    def append(self) -> None:
        """Store what was recorded; COMMIT is the next statement.

        Raises:
            FlowhookError: it must not commit.
        """
        ...

    def roll_back(self) -> FlowhookError | None:
        """Discard what was recorded and not appended, if anything; must not raise. Also called without a `begin`.

        Returns:
            The error for the callers of a transaction that was appended, so that it may be in effect elsewhere; None if
            nothing of it is stored anywhere.
        """
        ...

    def room(self) -> int | None:
        """Return the bytes that new events may take in the log; None: unlimited. No I/O."""
        ...


class NoLog:
    """The database is the only copy: durable once its transaction is committed."""

    def begin(self, connection: apsw.Connection) -> None:
        """See `TransactionLog`."""

    def append(self) -> None:
        """See `TransactionLog`."""

    def roll_back(self) -> FlowhookError | None:
        """See `TransactionLog`."""
        return None

    def room(self) -> int | None:
        """See `TransactionLog`."""
        return None
