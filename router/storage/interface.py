"""What the router asks of storage.

Small interfaces, named by role. A `Storage` has one `Registry` (flows and secrets) and a fixed number of *shards*.
A shard is an ordered log of accepted events (`EventLog`: any router may append) and the state of the executions they
start (`ShardState`: one owner at a time, writes of a former owner are refused). SQLite has one shard; the split is
what a distributed backend needs.

All methods run on the router's event loop and never block it. Writes that arrive while an earlier commit is under way
go into the next one together (group commit); each call returns after its own commit is on stable storage.

Every method may raise:
    UnavailableError: storage can't serve now (`STORAGE_FULL`, `STORAGE_UNAVAILABLE`); nothing of the call was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from flowhook.model import Change, Flow, SecretInfo, Status
from router.storage.arrivals import ArrivalAppended, KeptArrival, LoggedArrival, NewArrival
from router.storage.bodies import Bodies
from router.storage.model import (
    Appended,
    ExecutionAnswer,
    ExecutionContent,
    ExecutionRecord,
    FlowDraft,
    JournalSize,
    LoggedEvent,
    NewEvent,
    Occurrence,
    RegistryChange,
    Scheduled,
    StateChange,
    StoredRejection,
    Unfinished,
    Work,
)

DEFAULT_PAGE = 1000
"""Rows that one call returns at the most, unless it says otherwise."""


class EventLog(Protocol):
    """Appends accepted events to a shard."""

    async def append(self, events: Sequence[NewEvent]) -> list[Appended]:
        """Store events durably, each once.

        Two events of one flow with one event ID, or with one dedupe key within its window, are one: in the database
        and within one commit alike. An event ID that another flow's event has is `taken`.

        Returns:
            One result per event, in order.
        """
        ...

    async def append_arrivals(self, arrivals: Sequence[NewArrival]) -> list[ArrivalAppended]:
        """Store arrivals durably, each once, all of those that are new or none.

        Two with one flow and event ID are one; else, of two with one token the second is `gone`; else, two with one
        dedupe key of one callback within its window are one: in the database and within one commit alike.

        Returns:
            One result per arrival, in order.
        """
        ...


class ShardState(Protocol):
    """State of a shard's executions; for its owner."""

    @property
    def epoch(self) -> int:
        """Return the fencing number of this ownership, from 1: each `Storage.own` of the shard gets the next one."""
        ...

    def follow(self, listener: Callable[[Sequence[LoggedEvent]], None]) -> None:
        """Have `listener` called on the event loop with every event that becomes durable from now on.

        In log order, each once, and before the `append` that stored it returns. Duplicates are not told.
        """
        ...

    def follow_arrivals(self, listener: Callable[[Sequence[LoggedArrival]], None]) -> None:
        """Have `listener` called on the event loop with every arrival that becomes durable from now on.

        By ascending number, each once, and before the `append_arrivals` that stored it returns.
        """
        ...

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Store changes durably, in order, all of them or none.

        Raises:
            ConflictError: the shard has another owner by now (`SHARD_LOST`).
        """
        ...

    async def unfinished(self, *, after_seq: int = 0, limit: int = DEFAULT_PAGE) -> list[Unfinished]:
        """Return executions that have not ended, by ascending `seq`."""
        ...

    async def work(self, seqs: Collection[int]) -> dict[int, Work]:
        """Return what runners need of executions that have not ended; missing where there is none.

        Where much is to be read it may return some only, one at least: ask again for the others.
        """
        ...

    async def arrivals(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[KeptArrival]:
        """Return arrivals that were not consumed, by ascending number, but for those whose execution has ended."""
        ...

    async def arrival_payloads(self, numbers: Collection[int]) -> dict[int, bytes]:
        """Return payloads of arrivals that were not consumed; missing where there is none.

        Where much is to be read it may return some only, one at least: ask again for the others.
        """
        ...

    async def journal_sizes(self, seqs: Collection[int]) -> dict[int, JournalSize]:
        """Return how large journals are; missing where there is nothing in it."""
        ...

    async def identify(self, execution_ids: Collection[str]) -> dict[str, ExecutionRecord]:
        """Return executions by ID; missing where one is unknown or past retention. At most `DEFAULT_PAGE` at a time."""
        ...

    async def find(self, execution_id: str) -> ExecutionRecord | None:
        """Return an execution, or None when it is unknown or past retention."""
        ...

    async def records(self, seqs: Collection[int]) -> dict[int, ExecutionRecord]:
        """Return executions by sequence number; missing where there is none. At most `DEFAULT_PAGE` at a time."""
        ...

    async def content(self, seq: int) -> ExecutionContent | None:
        """Return the bulky part of an execution, or None when there is none."""
        ...

    async def history(self, seq: int) -> tuple[bytes, ...]:
        """Return what runners told of an execution's tasks, in order: at most `limits.MAX_READ_HISTORY_BYTES`.

        Where there is more, the first and the last of it, and an empty piece between them.
        """
        ...

    async def deduplicated(self, flow_id: str, dedupe_key: str, *, now_ms: int) -> str | None:
        """Return the ID of the event that a dedupe key of a flow stands for at this time; None: it stands for none."""
        ...

    async def body_of(self, execution_id: str) -> str | None:
        """Return the ID of the body that an execution's event names; None: it names none, or is not known."""
        ...

    async def answer(self, seq: int) -> ExecutionAnswer:
        """Return what an execution has answered so far; nothing when it is unknown."""
        ...

    async def list_executions(
        self,
        *,
        flow_id: str = "",
        statuses: Collection[Status] = (),
        before_seq: int | None = None,
        limit: int = DEFAULT_PAGE,
        unresolved: bool = False,
    ) -> list[ExecutionRecord]:
        """Return executions, newest first, that meet all conditions.

        `unresolved`: no later replay of their event runs, completed or faulted, and they have no `resolution`.
        """
        ...

    async def schedules(self, *, after_id: str = "", limit: int = DEFAULT_PAGE) -> list[Scheduled]:
        """Return what was stored last of each flow's schedule, by ascending flow ID."""
        ...

    async def occurrences(self, *, after_number: int = 0, limit: int = DEFAULT_PAGE) -> list[Occurrence]:
        """Return what occurred and was not told yet, by ascending number."""
        ...

    async def expire(self, *, ended_before_ms: int, limit: int = DEFAULT_PAGE) -> int:
        """Remove ended executions with their events, journals and blobs; arrivals and dedupe keys that are past.

        A body goes with the last execution whose event names it.

        So are schedules of flows that were deleted before that time, and revisions of these once no execution of them
        is left.

        Returns:
            How many executions were removed.
        """
        ...


class Registry(Protocol):
    """Flows and secrets. Every change gets the next registry-wide revision, from 1."""

    async def revision(self) -> int:
        """Return the latest registry-wide revision; 0 when nothing was ever changed."""
        ...

    async def apply_flows(self, drafts: Sequence[FlowDraft], *, now_ms: int) -> list[tuple[Flow, Change]]:
        """Store new and changed flows, all of them or none.

        A draft whose document and definition equal the stored one's is unchanged.
        """
        ...

    async def get_flow(self, flow_id: str, *, revision: int = 0) -> Flow | None:
        """Return a flow; 0 means its latest revision and None then means deleted or never there."""
        ...

    async def existing_flows(self, flow_ids: Sequence[str]) -> list[str]:
        """Return those of some IDs that are of flows, each once, in no particular order."""
        ...

    async def find_revision(self, flow_id: str, *, version: str) -> int | None:
        """Return the latest revision of a flow whose document is of a version (`document.version`).

        None when there is no such flow or none among its last `limits.KEPT_REVISIONS`; those from before a flow was
        deleted are none of it.
        """
        ...

    async def forget_revisions(self, *, superseded_before_ms: int) -> int:
        """Remove revisions of flows, but for the last `limits.KEPT_REVISIONS` and those that executions are of.

        Args:
            superseded_before_ms: when the next revision of the flow has to have come, Unix time.

        Returns:
            How many were removed.
        """
        ...

    async def list_flows(self, *, after_id: str = "", limit: int = DEFAULT_PAGE, reacting: bool = False) -> list[Flow]:
        """Return flows by ascending ID, their `document` left empty.

        Args:
            after_id: ID that those returned come after.
            limit: how many at the most.
            reacting: only those whose latest revision `reacts`; it takes no longer however many others there are.
        """
        ...

    async def set_paused(self, flow_id: str, *, paused: bool) -> Flow | None:
        """Pause or resume a flow; None when there is none. Without effect it makes no revision."""
        ...

    async def delete_flow(self, flow_id: str) -> bool:
        """Delete a flow; false when there was none.

        Its revisions stay readable while executions of them are kept, and until `expire` is told of a time after the
        deletion: an event may be on its way. Their numbers are not used again.
        """
        ...

    async def set_secret(self, name: str, sealed: bytes, *, now_ms: int) -> SecretInfo:
        """Create or replace a secret. `sealed` is encrypted already.

        Raises:
            ExhaustedError: there are `limits.MAX_SECRETS` already (`TOO_MANY_SECRETS`).
        """
        ...

    async def get_secrets(self, names: Collection[str]) -> dict[str, bytes]:
        """Return sealed values by name; missing where there is none."""
        ...

    async def list_secrets(self) -> list[SecretInfo]:
        """Return all secrets by ascending name."""
        ...

    async def delete_secret(self, name: str) -> bool:
        """Delete a secret; false when there was none."""
        ...

    async def changes(self, *, after_revision: int, limit: int = DEFAULT_PAGE) -> list[RegistryChange]:
        """Return changes by ascending revision.

        Raises:
            OutOfRangeError: some of them are no longer kept (`REVISION_COMPACTED`); the metadata's `revision` is the
                present one, to go on from.
        """
        ...

    def follow(self, listener: Callable[[int], None]) -> None:
        """Have `listener` called on the event loop with the latest revision after each change."""
        ...


class Rejections(Protocol):
    """Requests that were refused. A bounded log: the oldest of a flow, and of all, make room for new ones."""

    async def add(self, rejections: Sequence[StoredRejection]) -> None:
        """Add some; their `number` does not count. One whose ID is there already is passed over."""
        ...

    async def page(
        self, *, flow_id: str = "", before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[StoredRejection]:
        """Return rejections, newest first."""
        ...

    async def get(self, rejection_id: str) -> StoredRejection | None:
        """Return one, or None when it is not or no longer there."""
        ...


class Storage(Protocol):
    """All of it. Opened by the backend's `open`; closed once, after which every call raises UnavailableError."""

    @property
    def shards(self) -> int:
        """How many shards there are; fixed for the life of the data."""
        ...

    @property
    def registry(self) -> Registry:
        """Flows and secrets."""
        ...

    @property
    def rejections(self) -> Rejections:
        """Requests that were refused."""
        ...

    @property
    def bodies(self) -> Bodies:
        """Bodies that are stored apart from their events."""
        ...

    def log(self, shard: int) -> EventLog:
        """Return the log of a shard, in [0, shards)."""
        ...

    async def own(self, shard: int) -> ShardState:
        """Take ownership of a shard; its former owner's writes fail from here on."""
        ...

    async def healthy(self) -> bool:
        """Whether a write would presumably succeed now."""
        ...

    async def close(self) -> None:
        """Finish what is under way, then release everything. Idempotent."""
        ...
