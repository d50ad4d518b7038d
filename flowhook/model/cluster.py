"""The processes of the cluster, its shards, and what storage takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowhook.model.times import time_if_any, time_of


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of the cluster."""

    name: str
    role: str
    build: str
    pid: int
    host: str
    ready: bool
    detail: str
    metrics: bytes  # in the Prometheus text format
    last_seen: float  # seconds since its last report
    url: str = ""  # of an edge: scheme, host and port that senders use; else empty
    start_time_ms: int | None = None  # when it started, by its own clock; None: unknown
    connections: int = 0  # of an edge: open connections of senders
    credit: int = 0  # of a runner: executions that it would take besides those that it has
    in_flight: int = 0  # of a runner: executions that it has under lease
    # seconds by which its clock is ahead of the router's, at the least; negative: behind; None: unknown
    clock_skew: float | None = None
    warnings: tuple[str, ...] = ()  # what is wrong with it although it serves
    started_at = time_if_any("start_time_ms")


@dataclass(frozen=True, slots=True)
class Backlog:
    """The executions that have not ended, of all flows."""

    pending: int  # those that wait for a runner, or for an earlier one of their order key
    running: int  # those under lease
    waiting: int  # those that wait for a time or an event
    suspended: int  # those that an operator suspended
    limit: int  # number of all of them beyond which events are refused


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """What the data of the shard's owner takes on its disk, in bytes; at most 10 s old."""

    database_bytes: int  # the database file
    wal_bytes: int  # its write-ahead log
    file_bytes: int  # the files beside it: large payloads, and bodies
    files: int  # their number
    files_partial: bool  # whether there are more of them, which were not counted
    free_bytes: int  # bytes that are free on the disk
    disk_bytes: int  # bytes of the disk


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """The processes by name, the backlog, and what storage takes."""

    processes: tuple[ProcessInfo, ...]
    backlog: Backlog
    storage: StorageUsage


@dataclass(frozen=True, slots=True)
class ShardCopyInfo:
    """A router's copy of the data of a shard; the owner has one, too."""

    router: str  # its name
    address: str  # for gRPC, `host:port`
    state: str  # `following`, `claiming`, `recovering`, `serving`, `handing_over` or `lost`
    position: int  # position of the log that it has applied
    silence: float  # seconds since it was last heard of
    version: str  # of its Flowhook
    problem: str = ""  # what is wrong with its address, in a sentence; empty: nothing is known to be
    # why processes can't call it, by name of the process
    unreachable_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandOver:
    """A hand-over of the shard that was begun."""

    owner: str  # the router that hands over
    epoch: int  # of its ownership; that of the next owner is higher
    successor: str  # the router that is to own the shard


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot of a shard."""

    position: int  # that of the log that it contains
    size: int  # bytes, compressed
    create_time_ms: int
    created_at = time_of("create_time_ms")


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard."""

    number: int  # from 0
    epoch: int  # number of the ownership, from 1; 0: no owner is known
    owner: str  # the router that owns it; empty: none is known
    address: str  # of that router, for gRPC, `host:port`
    serving: bool  # whether its owner serves; false while it recovers, or hands over
    position: int  # last position of its log; 0 with the embedded storage
    first_position: int  # oldest position that was not purged
    log_bytes: int  # size of its log
    max_log_bytes: int  # size that its log may have; 0: unlimited
    copies: tuple[ShardCopyInfo, ...]  # by name of the router
    snapshots: tuple[SnapshotInfo, ...]  # newest first


@dataclass(frozen=True, slots=True)
class LogServerInfo:
    """A server of the replicated log."""

    name: str
    version: str
    current: bool  # whether it is present and up to date
    leader: bool  # whether it leads the replicas
    lag: int  # operations that it is behind
    problem: str  # what keeps it out, and what to do about it; empty: its monitoring says of nothing


def describe_server_lack(server: LogServerInfo) -> str:
    """Return why a server of the log is not up to date, for operators: what follows its name in a sentence."""
    return server.problem or f"does not answer, or is {server.lag} operations behind; see its log"


def describe_no_quorum(servers: Sequence[LogServerInfo]) -> str:
    """Return why nothing can be stored in a replicated log with these servers; empty: a majority is up to date."""
    out = [server for server in servers if not server.current]
    if 2 * len(out) < len(servers) or not servers:
        return ""
    lacks = "; ".join(f"{server.name} {describe_server_lack(server)}" for server in out)
    return f"the replicated log (NATS) has no quorum: {lacks}"


@dataclass(frozen=True, slots=True)
class ClusterShards:
    """The shards by number, and the servers of the replicated log by name; no servers with the embedded storage."""

    shards: tuple[ShardInfo, ...]
    servers: tuple[LogServerInfo, ...]
