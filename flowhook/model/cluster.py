"""The processes of the cluster, its shards, and what storage takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flowhook.model.times import to_datetime


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of the cluster.

    Attributes:
        last_seen: seconds since its last report.
        metrics: in the Prometheus text format.
        url: of an edge: scheme, host and port that senders use; else empty.
        start_time_ms: when it started, by its own clock; None: unknown.
        connections: of an edge: open connections of senders.
        credit: of a runner: executions that it would take besides those that it has.
        in_flight: of a runner: executions that it has under lease.
        clock_skew: seconds by which its clock is ahead of the router's, at the least; negative: behind; None: unknown.
        warnings: what is wrong with it although it serves.
    """

    name: str
    role: str
    build: str
    pid: int
    host: str
    ready: bool
    detail: str
    metrics: bytes
    last_seen: float
    url: str = ""
    start_time_ms: int | None = None
    connections: int = 0
    credit: int = 0
    in_flight: int = 0
    clock_skew: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def started_at(self) -> datetime | None:
        """Time at which it started; None: unknown."""
        return None if self.start_time_ms is None else to_datetime(self.start_time_ms)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The executions that have not ended, of all flows.

    Attributes:
        pending: those that wait for a runner, or for an earlier one of their order key.
        running: those under lease.
        waiting: those that wait for a time or an event.
        suspended: those that an operator suspended.
        limit: number of all of them beyond which events are refused.
    """

    pending: int
    running: int
    waiting: int
    suspended: int
    limit: int


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """What the data of the shard's owner takes on its disk, in bytes; at most 10 s old.

    Attributes:
        database_bytes: the database file.
        wal_bytes: its write-ahead log.
        file_bytes: the files beside it: large payloads, and bodies.
        files: their number.
        files_partial: whether there are more of them, which were not counted.
        free_bytes: bytes that are free on the disk.
        disk_bytes: bytes of the disk.
    """

    database_bytes: int
    wal_bytes: int
    file_bytes: int
    files: int
    files_partial: bool
    free_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """The processes by name, the backlog, and what storage takes."""

    processes: tuple[ProcessInfo, ...]
    backlog: Backlog
    storage: StorageUsage


@dataclass(frozen=True, slots=True)
class ShardCopyInfo:
    """A router's copy of the data of a shard; the owner has one, too.

    Attributes:
        router: name of the router.
        address: its address for gRPC, `host:port`.
        state: `following`, `claiming`, `recovering`, `serving`, `handing_over` or `lost`.
        position: position of the log that it has applied.
        silence: seconds since it was last heard of.
        version: version of its Flowhook.
        problem: what is wrong with its address, in a sentence; empty: nothing is known to be.
        unreachable_from: why processes can't call it, by name of the process.
    """

    router: str
    address: str
    state: str
    position: int
    silence: float
    version: str
    problem: str = ""
    unreachable_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandOver:
    """A hand-over of the shard that was begun.

    Attributes:
        owner: name of the router that hands over.
        epoch: number of its ownership; that of the next owner is higher.
        successor: the router that is to own the shard.
    """

    owner: str
    epoch: int
    successor: str


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot of a shard. `position`: that of the log that it contains. `size`: bytes, compressed."""

    position: int
    size: int
    create_time_ms: int

    @property
    def created_at(self) -> datetime:
        """Time at which it was made."""
        return to_datetime(self.create_time_ms)


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard.

    Attributes:
        number: from 0.
        epoch: number of the ownership, from 1; 0: no owner is known.
        owner: name of the router that owns it; empty: none is known.
        address: address of that router for gRPC, `host:port`.
        serving: whether its owner serves; false while it recovers, or hands over.
        position: last position of its log; 0 with the embedded storage.
        first_position: oldest position that was not purged.
        log_bytes: size of its log.
        max_log_bytes: size that its log may have; 0: unlimited.
        copies: by name of the router.
        snapshots: newest first.
    """

    number: int
    epoch: int
    owner: str
    address: str
    serving: bool
    position: int
    first_position: int
    log_bytes: int
    max_log_bytes: int
    copies: tuple[ShardCopyInfo, ...]
    snapshots: tuple[SnapshotInfo, ...]


@dataclass(frozen=True, slots=True)
class LogServerInfo:
    """A server of the replicated log.

    Attributes:
        name: its name.
        version: version of its software.
        current: whether it is present and up to date.
        leader: whether it leads the replicas.
        lag: operations that it is behind.
        problem: what keeps it out, and what to do about it; empty: its monitoring says of nothing.
    """

    name: str
    version: str
    current: bool
    leader: bool
    lag: int
    problem: str


@dataclass(frozen=True, slots=True)
class ClusterShards:
    """The shards by number, and the servers of the replicated log by name; no servers with the embedded storage."""

    shards: tuple[ShardInfo, ...]
    servers: tuple[LogServerInfo, ...]
