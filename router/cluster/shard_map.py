"""The owner of the shard, and the state of its copies and of the log, as this router knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from router.cluster.ownership import KnownOwner
from router.cluster.records import RouterRecord
from router.storage.commit_log.interface import LogStatus, StoredObject


@dataclass(frozen=True, slots=True)
class ShardSituation:
    """What a router knows of the shard.

    Attributes:
        owner: its owner; None: none is known.
        copies: all routers with a copy, this one included, by name, each with the seconds since it was heard.
    """

    owner: KnownOwner | None
    copies: list[tuple[RouterRecord, float]]


@dataclass(frozen=True, slots=True)
class LogReport:
    """The log and what is stored beside it, for operators.

    Attributes:
        status: of the log.
        snapshots: of the shard, by ascending position.
    """

    status: LogStatus
    snapshots: list[StoredObject]


class ShardMap(Protocol):
    """Who owns the shard, as far as this router knows."""

    def owner(self) -> KnownOwner | None:
        """Return the owner; None: none is known."""
        ...

    async def changed(self) -> None:
        """Wait until `owner` may have changed."""
        ...

    def situation(self) -> ShardSituation:
        """Return everything that this router knows."""
        ...

    async def log_report(self) -> LogReport | None:
        """Return the state of the log, its servers and its snapshots; None: there is no log.

        Raises:
            UnavailableError: the log can't be reached.
        """
        ...


class SingleOwner:
    """The map of the embedded storage, whose only router always is the owner.

    Args:
        record: describes this router.
    """

    def __init__(self, record: Callable[[], RouterRecord]) -> None:
        self._record = record

    def owner(self) -> KnownOwner:
        """See `ShardMap`."""
        record = self._record()
        return KnownOwner(record.router, record.address, record.epoch, serving=True)

    async def changed(self) -> None:
        """See `ShardMap`."""
        await asyncio.Event().wait()  # it never does

    def situation(self) -> ShardSituation:
        """See `ShardMap`."""
        return ShardSituation(self.owner(), [(self._record(), 0.0)])

    async def log_report(self) -> None:
        """See `ShardMap`."""
