"""The seam at which a transaction's changes leave the writer before they commit: a replicated log, or nothing."""

from __future__ import annotations

from typing import Protocol

import apsw


class TransactionLog(Protocol):
    """Records each transaction (writer thread). Calls alternate: `begin`, then `append` or `roll_back`."""

    def begin(self, connection: apsw.Connection) -> None:
        """Record changes from now on; the transaction has just begun."""
        ...

    def append(self) -> None:
        """Store what was recorded; the transaction commits as soon as this returns.

        Raises:
            FlowhookError: it must not commit.
        """
        ...

    def roll_back(self) -> None:
        """Discard what was recorded, if anything."""
        ...


class NoLog:
    """The database is the only copy: durable once its transaction is committed."""

    def begin(self, connection: apsw.Connection) -> None:
        """See `TransactionLog`."""

    def append(self) -> None:
        """See `TransactionLog`."""

    def roll_back(self) -> None:
        """See `TransactionLog`."""
