"""Storage interfaces of the router, named by role.

A `Storage` has one `Registry` (flows and secrets) and a fixed number of *shards*. A shard is an ordered log of accepted
events (`EventLog`: any router may append) and the state of the executions they start (`ShardState`: one owner at a
time, writes of a former owner are refused). SQLite has one shard; a distributed backend needs the split.

All methods run on the router's event loop and never block it. Writes that arrive during a commit go into the next one
together (group commit); each call returns after its own commit is on stable storage.

Every method may raise:
    UnavailableError: storage can't serve now (`STORAGE_FULL`, `STORAGE_UNAVAILABLE`); nothing of the call was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from flowhook.model import Change, Flow, FlowRevision
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import AttemptHistory
from flowhook.model.random_access import RandomAccess
from flowhook.model.secrets import SecretInfo
from router.storage.activity import ActivityQueries, StorageUsage
from router.storage.bodies import BodyStore
from router.storage.causes import StoredLinks
from router.storage.inbound_events import InboundEventAppended, LoggedInboundEvent, NewInboundEvent, UnconsumedEvent
from router.storage.jobs import ExecutionWalk, JobStore
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import (
    Appended,
    Erasure,
    ExecutionContent,
    ExecutionListing,
    ExecutionRecord,
    ExecutionResult,
    FlowDraft,
    JournalSize,
    LoggedEvent,
    NewEvent,
    RegistryChange,
    Scheduled,
    StateChange,
    UnfinishedExecution,
    UnpublishedEvent,
    Work,
)
from router.storage.operator_logs import AuditLog, RejectionLog

T = TypeVar("T")


class EventLog(Protocol):
    """The append-only log of a shard's accepted events."""

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Store events durably, each once.

        Two events of one flow with the same event ID, or with the same dedupe key within its window, are duplicates,
        whether the earlier one is in the database or in the same commit. An event ID used by another flow is `taken`.

        Returns:
            One result per event, in order.
        """
        ...

    async def append_arrivals(self, arrivals: Sequence[NewInboundEvent]) -> list[InboundEventAppended]:
        """Store arrivals durably, each once; either all new ones or none.

        The rules apply in this order, whether the earlier arrival is in the database or in the same commit. Two
        arrivals of one flow with the same event ID are duplicates. Of two with the same token, the second is `gone`.
        Two of one callback with the same dedupe key within its window are duplicates.

        Returns:
            One result per arrival, in order.
        """
        ...


class ShardState(ActivityQueries, Protocol):
    """The state of a shard's executions, for the shard's owner."""

    @property
    def epoch(self) -> int:
        """Return the fencing number of this ownership, from 1: each `Storage.own` of the shard gets the next one."""
        ...

    def follow(self, listener: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """Call `listener` on the event loop with every event that becomes durable from now on.

        Events are reported in log order, each once, before the `append` that stored them returns. Duplicates are not
        reported.
        """
        ...

    def follow_arrivals(self, listener: Callable[[Sequence[LoggedInboundEvent]], None]) -> None:
        """Call `listener` on the event loop with every arrival that becomes durable from now on.

        Arrivals are reported by ascending number, each once, before the `append_arrivals` that stored them returns.
        """
        ...

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Store changes durably, in order, all of them or none.

        Raises:
            ConflictError: the shard has another owner now (`SHARD_LOST`).
        """
        ...

    async def unfinished(self, *, after_seq: int = 0, limit: int = DEFAULT_PAGE) -> list[UnfinishedExecution]:
        """Return executions that have not ended, by ascending `seq`."""
        ...

    async def work(self, seqs: Collection[int]) -> dict[int, Work]:
        """Return what runners need to run executions that have not ended; others are missing from the result.

        A large result may be partial, with at least one execution: call again for the others.
        """
        ...

    async def arrivals(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[UnconsumedEvent]:
        """Return unconsumed arrivals by ascending number, except those addressed to an execution that has ended."""
        ...

    async def arrival_payloads(self, numbers: Collection[int]) -> dict[int, bytes]:
        """Return payloads of unconsumed arrivals; others are missing from the result.

        A large result may be partial, with at least one payload: call again for the others.
        """
        ...

    async def journal_sizes(self, seqs: Collection[int]) -> dict[int, JournalSize]:
        """Return the sizes of journals; empty ones are missing from the result."""
        ...

    async def find_by_ids(self, execution_ids: Collection[str]) -> dict[str, ExecutionRecord]:
        """Return executions by ID, except those unknown or past retention. At most `DEFAULT_PAGE` at a time."""
        ...

    async def find(self, execution_id: str) -> ExecutionRecord | None:
        """Return an execution, or None when it is unknown or past retention."""
        ...

    async def records(self, seqs: Collection[int]) -> dict[int, ExecutionRecord]:
        """Return executions by sequence number, except unknown ones. At most `DEFAULT_PAGE` at a time."""
        ...

    async def content(self, seq: int, *, with_payload: bool = True) -> ExecutionContent | None:
        """Return the large parts of an execution, or None when it is unknown; without its event if so requested."""
        ...

    async def read_payload(self, seq: int, read: Callable[[RandomAccess], T]) -> T | None:
        """Return what `read` makes of an execution's serialized event, or None when it is unknown.

        `read` is called on another thread, and reads the parts that it needs.
        """
        ...

    async def history(self, seq: int) -> tuple[bytes, ...]:
        """Return the task history that runners reported, in order: at most `limits.MAX_READ_HISTORY_BYTES`.

        A longer history is cut in the middle: the first and last pieces, with an empty piece between them.
        """
        ...

    async def located_history(self, seq: int) -> tuple[tuple[int, bytes], ...]:
        """Return the same as `history`, each piece with the index of the journal entry that was written next.

        After the last entry that is any index beyond it.
        """
        ...

    async def attempts(self, seq: int) -> AttemptHistory:
        """Return the stored attempts of an execution: those of `AttemptInterrupted`, and that of its `Ended`."""
        ...

    async def deduplicated(self, flow_id: str, dedupe_key: str, *, now_ms: int) -> str | None:
        """Return the ID of the event a flow's dedupe key refers to at `now_ms` (Unix time); None when there is none."""
        ...

    async def body_of(self, execution_id: str) -> str | None:
        """Return the ID of the body that an execution's event names; None when it names none or is unknown."""
        ...

    async def answer(self, seq: int) -> ExecutionResult:
        """Return an execution's output and reply so far; both None when it is unknown."""
        ...

    async def links(self, execution_id: str, *, limit: int) -> StoredLinks:
        """Return which executions caused an execution, and those that it caused last, at most `limit`."""
        ...

    async def list_executions(
        self,
        conditions: ExecutionFilter = ALL,
        *,
        before_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
    ) -> ExecutionListing:
        """Return executions that meet all conditions, newest first, at most `limit`.

        There may be fewer, or none, although the list continues: the time that one call takes is bounded.
        """
        ...

    async def count_executions(self, conditions: ExecutionFilter = ALL, *, limit: int) -> tuple[int, bool]:
        """Return how many executions meet all conditions, at most `limit`, and whether there may be more.

        The time that it takes is bounded.
        """
        ...

    async def payloads(self, seqs: Sequence[int], *, most_bytes: int) -> dict[int, bytes | None]:
        """Return serialized events; None for a large one, which is stored apart, and for an unknown one.

        At most `DEFAULT_PAGE` at a time. The result has as many of the first ones as have `most_bytes` together, at
        least one.
        """
        ...

    async def failed_before(self, seq: int) -> str | None:
        """Return the ID of the oldest stored execution of a replay's event that failed before it; None: none is."""
        ...

    async def superseded_by(self, seq: int) -> str | None:
        """Return the ID of the latest replay of an execution's event after it that was not cancelled; None: none is."""
        ...

    async def unended_run(self, execution_id: str) -> str | None:
        """Return the ID of an execution, or of a replay of its event, that has not ended; None: there is none."""
        ...

    async def walk_executions(
        self, conditions: ExecutionFilter, *, after_seq: int = 0, last_seq: int | None = None, limit: int = DEFAULT_PAGE
    ) -> ExecutionWalk:
        """Return executions that meet all conditions, oldest first, at most `limit`, with numbers up to `last_seq`.

        There may be fewer, or none, although the walk continues: the time that one call takes is bounded.
        """
        ...

    async def schedules(self, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[Scheduled]:
        """Return the last stored schedule state of each flow, by ascending flow ID."""
        ...

    async def occurrences(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[UnpublishedEvent]:
        """Return lifecycle events that are not yet published (the outbox), by ascending number."""
        ...

    async def expire(self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE) -> int:
        """Remove executions that ended before a Unix time, with their events, journals and blobs.

        A body is removed with the last execution whose event names it. Also removed are expired arrivals and dedupe
        keys, the schedules of flows deleted before that time, and these flows' revisions once none of their executions
        is left; and jobs that ended before that time.

        Returns:
            The number of executions removed.
        """
        ...

    async def delete(self, seqs: Collection[int]) -> int:
        """Remove executions that have ended, as `expire` does, at most `DEFAULT_PAGE`; return their number.

        Others are left alone. Dedupe keys stay for their windows: an event that is sent again still is a duplicate.
        """
        ...

    async def erase(self, execution_id: str, *, rejections: Collection[str], now_ms: int) -> Erasure:
        """Erase the event of an execution: what is stored of that, of all replays, and what refers to them.

        Unlike `delete`, this leaves nothing in the free space of files either, nor dedupe keys, rejections of the
        request, undelivered events of the executions, and reasons and messages about them in the audit log and jobs.
        It returns when nothing is left in the files of this router. Idempotent: it goes on where it was interrupted.

        Args:
            execution_id: the execution, or a replay of it.
            rejections: IDs of rejections of the same request, besides those that were accepted as the event.
            now_ms: Unix time.

        Raises:
            NotFoundError: it is not stored, and was not erased (`EXECUTION_NOT_FOUND`).
            ConflictError: one of the executions has not ended (`EXECUTION_NOT_ENDED`).
        """
        ...

    async def erased(self, execution_id: str) -> Erasure | None:
        """Return the erasure of an execution; None: it was not erased, or so long ago that this is forgotten."""
        ...


class Registry(Protocol):
    """Flows and secrets. Every change gets the next registry-wide revision, from 1."""

    async def revision(self) -> int:
        """Return the latest registry-wide revision; 0 before the first change."""
        ...

    async def apply_flows(self, drafts: Sequence[FlowDraft], *, now_ms: int) -> list[tuple[Flow, Change]]:
        """Store new and changed flows, all of them or none.

        A draft whose document and definition equal the stored one's is unchanged.
        """
        ...

    async def get_flow(self, flow_id: str, *, revision: int = 0) -> Flow | None:
        """Return a revision of a flow, or None when there is none.

        Revision 0 means the latest one; None then means that the flow is deleted or never existed.
        """
        ...

    async def get_flows(self, flow_ids: Sequence[str]) -> list[Flow]:
        """Return those flows among `flow_ids` that exist, with an empty `document`, each once, in no particular order.

        One read, so that it does not take a turn of a thread for each flow.
        """
        ...

    async def existing_flows(self, flow_ids: Sequence[str]) -> list[str]:
        """Return the IDs among `flow_ids` that belong to existing flows, each once, in no particular order."""
        ...

    async def find_revision(self, flow_id: str, *, version: str) -> int | None:
        """Return the latest revision of a flow whose document has a version (`document.version`).

        None when there is no such flow, or no such revision among its last `limits.KEPT_REVISIONS`. Revisions from
        before a flow was deleted do not count.
        """
        ...

    async def list_revisions(
        self, flow_id: str, *, before: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[FlowRevision]:
        """Return the stored revisions of a flow, newest first; none if there is no such flow.

        Args:
            flow_id: the flow.
            before: only revisions with a smaller number; None: all.
            limit: most revisions to return.
        """
        ...

    async def forget_revisions(self, *, superseded_before_ms: int) -> int:
        """Remove old revisions of flows, except the last `limits.KEPT_REVISIONS` and those that executions run.

        Args:
            superseded_before_ms: Unix time; only revisions replaced by a newer one before it are removed.

        Returns:
            The number of revisions removed.
        """
        ...

    async def list_flows(self, *, after_id: str = "", limit: int = DEFAULT_PAGE, reacting: bool = False) -> list[Flow]:
        """Return flows by ascending ID, with an empty `document`.

        Args:
            after_id: only flows with a greater ID.
            limit: most flows to return.
            reacting: only flows whose latest revision `reacts`; the time taken does not depend on the other flows.
        """
        ...

    async def set_paused(self, flow_id: str, *, paused: bool) -> Flow | None:
        """Pause or resume a flow; None when there is none. If that changes nothing, no revision is made."""
        ...

    async def delete_flow(self, flow_id: str) -> bool:
        """Delete a flow; false when there was none.

        Its revisions stay readable while any of its executions is stored, and until `expire` is called with a time
        after the deletion, because an event may still be in transit. Revision numbers are not reused.
        """
        ...

    async def set_secret(self, name: str, sealed: bytes, *, now_ms: int) -> SecretInfo:
        """Create or replace a secret. `sealed` is already encrypted.

        Raises:
            ExhaustedError: there are `limits.MAX_SECRETS` already (`TOO_MANY_SECRETS`).
        """
        ...

    async def get_secrets(self, names: Collection[str]) -> dict[str, bytes]:
        """Return sealed values by name, except unknown ones."""
        ...

    async def list_secrets(self) -> list[SecretInfo]:
        """Return all secrets by ascending name."""
        ...

    async def delete_secret(self, name: str) -> bool:
        """Delete a secret; false when there was none."""
        ...

    async def fingerprint(self, name: str) -> str:
        """Return what `set_fingerprint` stored under a name; empty: nothing."""
        ...

    async def set_fingerprint(self, name: str, value: str) -> None:
        """Store 16 hex digits by which something outside of the storage is recognised that belongs to the data."""
        ...

    async def changes(self, *, after_revision: int, limit: int = DEFAULT_PAGE) -> list[RegistryChange]:
        """Return changes by ascending revision.

        Raises:
            OutOfRangeError: some of them are no longer stored (`REVISION_COMPACTED`); the metadata's `revision` is the
                current one, to continue from.
        """
        ...

    def follow(self, listener: Callable[[int], None]) -> None:
        """Call `listener` on the event loop with the latest revision after each change."""
        ...


class Storage(Protocol):
    """The whole storage. Opened by the backend's factory; after `close`, every call raises UnavailableError."""

    @property
    def shards(self) -> int:
        """Number of shards; fixed for the life of the data."""
        ...

    @property
    def registry(self) -> Registry:
        """Flows and secrets."""
        ...

    @property
    def rejections(self) -> RejectionLog:
        """The log of rejected requests."""
        ...

    @property
    def audit(self) -> AuditLog:
        """The audit log."""
        ...

    @property
    def jobs(self) -> JobStore:
        """Bulk jobs."""
        ...

    @property
    def bodies(self) -> BodyStore:
        """Bodies stored separately from their events."""
        ...

    def log(self, shard: int) -> EventLog:
        """Return the log of a shard, in [0, shards)."""
        ...

    async def own(self, shard: int) -> ShardState:
        """Take ownership of a shard; writes of its former owner fail from now on."""
        ...

    async def usage(self) -> StorageUsage:
        """Return what the data takes on the disk of this router.

        Raises:
            UnavailableError: the files can't be read (`STORAGE_UNAVAILABLE`).
        """
        ...

    async def healthy(self) -> bool:
        """Whether a write would presumably succeed now."""
        ...

    async def close(self) -> None:
        """Finish calls in progress, then release all resources. Idempotent."""
        ...
