"""Values that the router and its storage exchange: what is appended, changed, and found again."""

from __future__ import annotations

from typing import NamedTuple

from flowhook.model import JournalEntry, Resolution, Status, Subscription, WorkflowError


class Resumption(NamedTuple):
    """What a new execution takes over from one that ended, so that it goes on where that one stopped.

    Attributes:
        effect_scope: ID of the execution that idempotency keys are made of.
        journal: its entries, in order.
        journal_start: index of the first of them.
    """

    effect_scope: str
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0


class NewEvent(NamedTuple):
    """An event to append.

    Attributes:
        dedupe_key: empty for an event that is never deduplicated; scoped to the flow.
        dedupe_until_ms: Unix time until which another event with this key is a duplicate of this one.
        payload: the serialized event; above `limits.INLINE_BODY_BYTES` it is kept as a blob.
        replay_of: ID of the execution that this one replays, or empty.
        order_key: executions of the flow with the same key run one after another; empty: no order.
        resumes: what the execution takes over from the one it replays, stored with it.
        body: ID of the body that it names, or empty: one that waits (see `bodies`), or that of `replay_of`, which the
            two then share.
        quiet: nothing is to be told of the execution (see `Occurred`).
    """

    event_id: str
    flow_id: str
    flow_revision: int
    receive_time_ms: int
    payload: bytes
    dedupe_key: str = ""
    dedupe_until_ms: int = 0
    replay_of: str = ""
    order_key: str = ""
    resumes: Resumption | None = None
    body: str = ""
    quiet: bool = False


class Appended(NamedTuple):
    """Fate of one appended event.

    Attributes:
        seq: position in the shard's log, from 1, ascending.
        duplicate_of: ID of the event that was stored before under the same event ID or dedupe key; empty when this
            one is new. `seq` is then the earlier one's.
        bodiless: nothing was stored, because the body that the event names is not there (any more); `seq` is 0.
        taken: nothing was stored, because an event of another flow has this one's ID; `seq` is 0.
    """

    seq: int
    duplicate_of: str = ""
    bodiless: bool = False
    taken: bool = False

    @property
    def new(self) -> bool:
        """Whether this event was stored."""
        return not (self.duplicate_of or self.bodiless or self.taken)


class LoggedEvent(NamedTuple):
    """A durable event, as the shard's owner is told of it."""

    seq: int
    event: NewEvent


class Started(NamedTuple):
    """An execution is under lease; `attempts` includes this one.

    `term`: leases of earlier terms are void, here and in other changes. What is on record never goes down.
    """

    seq: int
    attempts: int
    term: int = 0


class Requeued(NamedTuple):
    """An execution lost its lease and waits for a runner again; `attempts` are those charged so far."""

    seq: int
    attempts: int
    term: int = 1


class Parked(NamedTuple):
    """An execution gave up its lease and waits until `wake_at_ms` (None: for no time).

    `attempts` includes the one that parked it, which is not charged. `subscriptions` are what else it waits for: they
    replace those of an earlier wait. `history`: see `Journaled`, after the last entry.
    """

    seq: int
    wake_at_ms: int | None
    attempts: int
    subscriptions: tuple[Subscription, ...] = ()
    term: int = 1
    history: bytes = b""


class Suspended(NamedTuple):
    """An operator suspended an execution; `attempts` are those charged so far.

    `term` is 0 when that broke no lease.
    """

    seq: int
    attempts: int
    term: int = 0


class Resumed(NamedTuple):
    """An operator resumed an execution: it waits for a runner again; `attempts` are those charged so far."""

    seq: int
    attempts: int


class Journaled(NamedTuple):
    """One more journal entry at `index` (from 0). Writing the same index again is a no-op.

    `compacts`: the entries before it are removed. Indexes below it must not be written any more. `history`: what tasks
    came to before it, opaque; it outlives the entry, within bounds (`limits.MAX_HISTORIES`).
    """

    seq: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    entry: JournalEntry
    compacts: bool = False
    history: bytes = b""


class Replied(NamedTuple):
    """An execution answered before its end; `reply` is opaque. The first reply wins; later ones are no-ops."""

    seq: int
    reply: bytes


class Ended(NamedTuple):
    """An execution ended. `output` is JSON; `reply` is opaque, and a no-op when there is one already (`Replied`).

    `history`: see `Journaled`, after the last entry.

    The first end wins; later ones are no-ops.
    """

    seq: int
    status: Status
    end_time_ms: int
    attempts: int
    output: bytes | None = None
    error: WorkflowError | None = None
    reply: bytes | None = None
    history: bytes = b""


class Delivered(NamedTuple):
    """What an execution waited for has come: `entry` is appended to its journal, and it waits no more.

    The entry gets the index after the last one. `attempts` are those charged so far, as with `Requeued`.
    """

    seq: int
    entry: JournalEntry
    attempts: int


class Consumed(NamedTuple):
    """An arrival that is not needed any more; what tells that it was there is remembered as long as ever."""

    number: int


class Occurred(NamedTuple):
    """Something happened to an execution that is to be told to others; `type` is that of the event, the time Unix's.

    It is stored with what happened, in one `write`, and before it if that is the end. Of an execution that has ended
    nothing is, of a quiet one neither; and what comes `first` is when there is no record yet that a runner ever had it.
    `key` and `data` are what a runner says of it (`LifecycleEvent`), where it is told by one.
    """

    seq: int
    type: str
    time_ms: int
    first: bool = False
    key: str = ""
    data: bytes = b""


class Told(NamedTuple):
    """What occurred was told to all whom it concerns, and is not needed any more."""

    number: int


class Resolved(NamedTuple):
    """An operator says that nothing is to be done any more about an execution that failed.

    It replaces what was said before. Of one that did not fault, and was not cancelled, it is a no-op.
    """

    seq: int
    time_ms: int
    reason: str


class Scheduled(NamedTuple):
    """When a flow is due next (None: not by time) and was started last by its schedule (0: never); Unix times.

    It replaces what was stored of the flow before.
    """

    flow_id: str
    due_ms: int | None
    last_ms: int = 0


StateChange = (
    Started
    | Requeued
    | Parked
    | Suspended
    | Resumed
    | Journaled
    | Replied
    | Ended
    | Scheduled
    | Delivered
    | Consumed
    | Occurred
    | Told
    | Resolved
)


class Occurrence(NamedTuple):
    """What `Occurred` and was not `Told` yet; numbers ascend in the order of writes."""

    number: int
    seq: int
    type: str
    time_ms: int
    key: str = ""
    data: bytes = b""


class Unfinished(NamedTuple):
    """An execution that has not ended, as found at start-up.

    Attributes:
        attempts: as the last change of its state had them.
        term: the greatest that any change named; leases of earlier ones are void.
        wake_at_ms: when it is to be woken, if it is waiting for a time; else None.
        subscriptions: what else it is waiting for, if it is waiting.
    """

    seq: int
    event_id: str
    flow_id: str
    flow_revision: int
    attempts: int
    term: int = 0
    status: Status = Status.PENDING
    wake_at_ms: int | None = None
    order_key: str = ""
    subscriptions: tuple[Subscription, ...] = ()


class Work(NamedTuple):
    """What a runner needs of an execution.

    Attributes:
        journal: its entries, in order, from the last one that compacted.
        journal_start: index of the first of them; 0 when there is none.
        effect_scope: ID of the execution that idempotency keys are made of; empty: its own.
    """

    seq: int
    flow_revision: int
    payload: bytes
    journal: tuple[JournalEntry, ...]
    journal_start: int = 0
    effect_scope: str = ""


class ExecutionRecord(NamedTuple):
    """What is kept of an execution, without its event and journal.

    Attributes:
        replay_of: ID of the execution that it replays, or empty.
        replayed_by: ID of the latest execution that stands for it, see `replayed`; else of the latest that replays it,
            and failed; else empty.
        replayed: whether a later replay of its event, directly or of a replay, is unfinished or completed.
        resolution: what an operator said of it.
    """

    seq: int
    id: str
    flow_id: str
    flow_revision: int
    status: Status
    attempts: int
    receive_time_ms: int
    end_time_ms: int | None
    error: WorkflowError | None
    replay_of: str
    effect_scope: str = ""
    order_key: str = ""
    quiet: bool = False
    replayed_by: str = ""
    replayed: bool = False
    resolution: Resolution | None = None


class ExecutionContent(NamedTuple):
    """The bulky part of an execution."""

    payload: bytes
    journal: tuple[JournalEntry, ...]
    output: bytes | None
    reply: bytes | None
    journal_start: int = 0


class JournalSize(NamedTuple):
    """Entries of a journal, and bytes of their keys and outputs."""

    entries: int
    bytes: int


class ExecutionAnswer(NamedTuple):
    """What an execution has to say to whoever started it: a reply, in time or never, and an output when it ended."""

    output: bytes | None
    reply: bytes | None


class RegistryChange(NamedTuple):
    """One change of the registry: exactly one of `flow_id` and `secret_name` is non-empty."""

    revision: int
    flow_id: str
    secret_name: str


class FlowDraft(NamedTuple):
    """A checked document that is to become a flow's next revision.

    Attributes:
        reacts: whether the flow has a schedule, or listens for events; see `Registry.list_flows`.
    """

    id: str
    document: bytes
    definition: bytes
    has_webhook: bool
    reacts: bool = False


class StoredRejection(NamedTuple):
    """A request that was refused, as kept: `content` is opaque. `number` is given by storage, ascending."""

    number: int
    id: str
    flow_id: str
    time_ms: int
    content: bytes
