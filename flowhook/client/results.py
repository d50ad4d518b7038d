"""Results and errors that only clients have; those of all parts are in `flowhook.model` and `flowhook.errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from flowhook.errors import Fault, FlowhookError, UnavailableError
from flowhook.model import Change, Execution, Flow, Headers, WorkflowError, to_datetime
from flowhook.model.executions import ExecutionLinks
from flowhook.model.jobs import SampledReplay

T_co = TypeVar("T_co", covariant=True)


class Page(NamedTuple, Generic[T_co]):
    """A part of a list, and the token of the next part; empty: there is none."""

    items: Sequence[T_co]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class AppliedFlow:
    """Result of applying one document, with warnings for its author, for example that a secret is not set."""

    flow: Flow
    change: Change
    warnings: tuple[str, ...]
    located_warnings: tuple[Fault, ...] = ()
    """The same with their places in the document, without a file."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The HTTP request that a sender of a flow would make, without values of secrets.

    Attributes:
        method: upper case.
        url: with path and query.
        headers: all but Host and Content-Length.
        body: bytes of the body.
        auth_kind: kind of `auth` that it satisfies; empty: the flow has none.
        secret_name: name of the secret that it is signed with; empty: none.
        validity: seconds in which it is accepted; None: unlimited.
        credential: where the sender puts the secret itself, `header`, `query` or `basic`, and the name of the header,
            the parameter or the user; None: the request is complete.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    auth_kind: str
    secret_name: str
    validity: float | None
    credential: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """Change of an execution's status. `missed` counts the changes that were dropped before it for a slow watcher."""

    execution: Execution
    missed: int


@dataclass(frozen=True, slots=True)
class ExecutionCount:
    """Number of executions; `more`: there may be more of them."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class DeletedExecutions:
    """Executions that were deleted.

    Attributes:
        execution_ids: their IDs, oldest first; at least one.
        links: executions that caused them, and that they caused, at most 20: these may hold the same data, and were not
            deleted.
        erase_time_ms: Unix time when the event was erased; None: it was not.
        purge_pending: whether other routers and the replicated log still have what was erased, for about a minute.
    """

    execution_ids: tuple[str, ...]
    links: ExecutionLinks
    erase_time_ms: int | None
    purge_pending: bool


class ScannedExecution(NamedTuple):
    """An execution and the event that started it.

    Attributes:
        execution: as in lists.
        event: the event, a serialized `flowhook.v1.Event`; None where it, or its body, is stored apart because it is
            large.
        has_webhook: whether the flow has a `webhook`: the input of its workflow then describes the request.
        raw: whether the flow takes bodies unparsed.
        next_page_token: token of the page that begins after it.
    """

    execution: Execution
    event: bytes | None
    has_webhook: bool
    raw: bool
    next_page_token: str


@dataclass(frozen=True, slots=True)
class JobPreview:
    """Executions that match the filter of a job.

    Attributes:
        count: their number, exact up to 10,000.
        more: whether there are, or may be, more.
        sample: the oldest ones, at most 10.
        replays: what the replay of each in `sample` would do; empty unless that was asked.
    """

    count: int
    more: bool
    sample: tuple[Execution, ...]
    replays: tuple[SampledReplay, ...] = ()


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


class ReplyPendingError(UnavailableError):
    """The flow has not replied in time; its execution, `execution_id`, continues."""

    default_reason = "REPLY_PENDING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has not replied in time, and continues")
        self.execution_id = execution_id


class ExecutionFailedError(FlowhookError):
    """The execution faulted or was cancelled; `error` is the cause as a DSL error."""

    default_reason = "EXECUTION_FAILED"

    def __init__(self, execution_id: str, error: WorkflowError) -> None:
        super().__init__(f"execution {execution_id} failed: {error.title}: {error.detail}".rstrip(": "))
        self.execution_id = execution_id
        self.error = error
