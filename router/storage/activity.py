"""What operators are shown of storage: recent activity of flows, and what the data takes on the disk."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from flowhook.model import Status


class MinuteCount(NamedTuple):
    """Number of a flow's executions that were accepted or ended within a minute.

    Attributes:
        minute: Unix time in minutes.
        status: the status with which they ended; None: they were accepted, whether they have ended or not.
    """

    flow_id: str
    minute: int
    status: Status | None
    number: int


class RecentActivity(NamedTuple):
    """Numbers of executions, complete from a Unix time (ms) on."""

    since_ms: int
    counts: tuple[MinuteCount, ...]


class StorageUsage(NamedTuple):
    """What the data takes on a disk, in bytes.

    Attributes:
        database: the database file.
        wal: its write-ahead log.
        file_bytes: the files beside it: large payloads, and bodies.
        files: their number.
        files_partial: whether there are more of them, which were not counted.
        free: bytes that are free on the disk.
        disk: bytes of the disk.
    """

    database: int
    wal: int
    file_bytes: int
    files: int
    files_partial: bool
    free: int
    disk: int


class ActivityQueries(Protocol):
    """Queries about the recent activity of a shard's flows; at most 1000 executions or flows in a call."""

    async def last_seq(self) -> int:
        """Return the greatest sequence number of a stored execution; 0: there is none."""
        ...

    async def recent_activity(
        self, *, since_ms: int, until_seq: int, ended_before_ms: int, limit: int
    ) -> RecentActivity:
        """Return how many executions of each flow were accepted, and ended, in each recent minute.

        Args:
            since_ms: Unix time from which they are wanted.
            until_seq: executions with a greater sequence number are not counted as accepted.
            ended_before_ms: Unix time; executions that ended at it or later are not counted as ended.
            limit: most executions to read, newest first; the result is complete for a shorter time if there are more.
        """
        ...

    async def receive_times(self, seqs: Collection[int]) -> dict[int, int]:
        """Return when executions were received, Unix times in ms, except unknown ones."""
        ...

    async def latest_receive_times(self, flow_ids: Collection[str]) -> dict[str, int]:
        """Return when each flow's latest stored execution was received, Unix times in ms.

        Flows without a stored execution are missing.
        """
        ...
