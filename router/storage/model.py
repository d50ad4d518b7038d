"""Values exchanged between the router and its storage: appended events, state changes, and query results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from flowhook.events import ids
from flowhook.events.keys import ShapingKeys
from flowhook.model import Execution, JournalEntry, Retry, Status, Subscription, WorkflowError
from flowhook.model.executions import Attempt, LinkKind


class Resumption(NamedTuple):
    """State a new execution inherits from one that ended, so that it continues where that one stopped."""

    effect_scope: str  # ID of the execution that idempotency keys are derived from
    journal: tuple[JournalEntry, ...] = ()  # its entries, in order
    journal_start: int = 0  # index of the first entry


class NewEvent(NamedTuple):
    """An event to append."""

    event_id: str
    flow_id: str
    flow_revision: int
    receive_time_ms: int
    payload: bytes  # the serialized event; above `StorageLimits.inline_bytes` it is stored as a blob
    dedupe_key: str = ""  # scoped to the flow; empty: the event is never deduplicated
    dedupe_until_ms: int = 0  # Unix time until which another event with this key is a duplicate of this one
    replay_of: str = ""  # ID of the execution that this one replays, or empty
    order_key: str = ""  # executions of the flow with the same key run one after another; empty: no order
    resumes: Resumption | None = None  # state the execution inherits from the one it replays, stored with it
    # ID of the body that it names: a waiting one (see `bodies`), or that of `replay_of`, which the two then share
    body: str = ""
    quiet: bool = False  # no lifecycle events of the execution are recorded (see `LifecycleRecorded`)
    # search attributes, each name once; a replay gets those of `replay_of` in addition, unless it is `edited`
    attributes: tuple[tuple[str, str], ...] = ()
    edited: bool = False  # whether it is a replay with another body
    causes: tuple[Cause, ...] = ()  # the executions that caused it
    # Unix time that is compared with `dedupe_until_ms` of earlier events, by their clock; 0: `receive_time_ms`
    dedupe_at_ms: int = 0
    shaping: ShapingKeys | None = None  # keys by which executions of its flow are shaped; None: it has none
    replay_root: str = ""  # of a replay: `ExecutionRecord.root` of what it replays

    @property
    def is_request(self) -> bool:
        """Whether somebody sent it: no schedule, execution or lifecycle event caused it, and it is no replay."""
        if self.replay_of or self.quiet or any(each.kind in (LinkKind.RUN, LinkKind.EVENT) for each in self.causes):
            return False
        return not ids.is_of_schedule(self.event_id, self.flow_id)


class Appended(NamedTuple):
    """Result of appending one event."""

    seq: int  # position in the shard's log, from 1, ascending; of a duplicate, the earlier event's; else 0
    duplicate_of: str = ""  # ID of the event stored earlier under the same event ID or dedupe key
    body_missing: bool = False  # the body that the event names does not exist (any more)
    taken: bool = False  # an event of another flow has the same ID

    @property
    def new(self) -> bool:
        return not (self.duplicate_of or self.body_missing or self.taken)


class LoggedEvent(NamedTuple):
    """A durable event, as reported to the shard's owner."""

    seq: int
    event: NewEvent


class Started(NamedTuple):
    """An execution is under lease; `attempts` includes this one.

    `term`: leases of earlier terms are void, here and in other changes. The stored term never decreases.
    `time_ms`: when a runner got it; 0: now.
    """

    seq: int
    attempts: int
    term: int = 0
    time_ms: int = 0


class Requeued(NamedTuple):
    """An execution lost its lease and waits for a runner again; `attempts` are those charged so far."""

    seq: int
    attempts: int
    term: int = 1


class Parked(NamedTuple):
    """An execution gave up its lease and waits until `wake_at_ms` (Unix time; None: no timer wakes it).

    `attempts` includes the one that parked it, which is not charged. `subscriptions` are the events and ends it also
    waits for: they replace those of an earlier wait. `history`: see `Journaled`, after the last entry. `retry`: what
    failed and is tried again when the wait is over, if anything. `destinations`: origins that it is about to call and
    that are down.
    """

    seq: int
    wake_at_ms: int | None
    attempts: int
    subscriptions: tuple[Subscription, ...] = ()
    term: int = 1
    history: bytes = b""
    retry: Retry | None = None
    destinations: tuple[str, ...] = ()


class Suspended(NamedTuple):
    """An operator suspended an execution; `attempts` are those charged so far.

    `term` is 0 when no lease was broken.
    """

    seq: int
    attempts: int
    term: int = 0


class Resumed(NamedTuple):
    """An operator resumed an execution: it waits for a runner again; `attempts` are those charged so far."""

    seq: int
    attempts: int


class Journaled(NamedTuple):
    """A journal entry at `index` (from 0). Writing the same index again is a no-op.

    `compacts`: the entries before it are removed, and indexes below it must not be written any more. `history`: results
    of the tasks before it, opaque; it outlives the entry, within bounds (`limits.MAX_HISTORIES`).
    """

    seq: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is not used here
    entry: JournalEntry
    compacts: bool = False
    history: bytes = b""


class Replied(NamedTuple):
    """An execution replied before its end; `reply` is opaque. The first reply wins; later ones are no-ops."""

    seq: int
    reply: bytes


class Ended(NamedTuple):
    """An execution ended. `output` is JSON; `reply` is opaque, and a no-op when there is one already (`Replied`).

    `history`: see `Journaled`, after the last entry. `runner`: ID of the runner that had it in the end; empty: none had
    it. `assign_time_ms`: Unix time at which it was assigned to that; 0: unknown.

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
    runner: str = ""
    assign_time_ms: int = 0


class Delivered(NamedTuple):
    """The event or end an execution waited for has arrived: it stops waiting, and `entry` is added to its journal.

    The entry gets the index after the last one. `attempts` are those charged so far, as with `Requeued`.
    """

    seq: int
    entry: JournalEntry
    attempts: int


class Consumed(NamedTuple):
    """An inbound event is no longer needed; its deduplication records are retained as long as without this change."""

    number: int


class LifecycleRecorded(NamedTuple):
    """A lifecycle event of an execution, to be published; `type` is the event's type, `time_ms` a Unix time.

    It is written in one `write` with the change it describes, and before that change if it is the execution's end. It
    is not stored for executions that have ended or are quiet. With `first`, it is stored only while there is no record
    that a runner ever had the execution. `key` and `data` come from the runner that reported it (`LifecycleEvent`), if
    one did.
    """

    seq: int
    type: str
    time_ms: int
    first: bool = False
    key: str = ""
    data: bytes = b""


class LifecyclePublished(NamedTuple):
    """A lifecycle event was published to all its receivers and is no longer needed."""

    number: int


class Resolved(NamedTuple):
    """An operator marks a failed execution as resolved: nothing remains to be done about it.

    It replaces an earlier resolution. For an execution that is neither faulted nor cancelled, it is a no-op.
    """

    seq: int
    time_ms: int
    reason: str


class RateReserved(NamedTuple):
    """A line of a flow's rate may be assigned executions until a Unix time (see `router.scheduling.rates`).

    `line` is its fingerprint. An earlier time than the stored one is a no-op.
    """

    line: bytes
    until_ms: int


class GroupLeft(NamedTuple):
    """An execution leaves its group, and goes on for others, which it absorbs: it has no key of a group any more.

    These are stored as its causes, and end in the same write. `batches`: all events are its input.
    """

    seq: int
    absorbed: tuple[int, ...] = ()
    batches: bool = False


class TurnKept(NamedTuple):
    """An execution that faults keeps the turn of its order key; it is written in one `write` with the end."""

    seq: int


class TurnReleased(NamedTuple):
    """An execution does not keep the turn of its order key any more."""

    seq: int


class Scheduled(NamedTuple):
    """The schedule state of a flow; replaces what was stored for it before."""

    flow_id: str
    due_ms: int | None  # Unix time of the next start; None: no start by time
    last_ms: int = 0  # Unix time of the last start by its schedule; 0: never


class UnpublishedEvent(NamedTuple):
    """A lifecycle event in the outbox: `LifecycleRecorded`, but not yet `LifecyclePublished`.

    Numbers ascend in the order of writes.
    """

    number: int
    seq: int
    type: str
    time_ms: int
    key: str = ""
    data: bytes = b""


class UnfinishedExecution(NamedTuple):
    """An execution that has not ended, as found at start-up."""

    seq: int
    event_id: str
    flow_id: str
    flow_revision: int
    attempts: int  # as in the last change of its state
    term: int = 0  # the greatest term of any change; leases of earlier terms are void
    wake_at_ms: int | None = None  # Unix time to wake it, if it is waiting for a time; else None
    order_key: str = ""
    receive_time_ms: int = 0
    replay_root: str = ""  # of a replay: the execution that the first of chained replays replayed
    retry_destination: str = ""  # where the call failed that is tried again next, if it waits for that
    retry_key: str = ""  # key of the journal entry that ends this wait
    retry_follows: int = 0  # 1: it has its next try as soon as another call of its flow succeeds there
    status: Status = Status.PENDING
    retries: bool = False  # whether it waits for another try of what failed
    subscriptions: tuple[Subscription, ...] = ()  # events and ends it is waiting for, if it is waiting
    shaping: ShapingKeys | None = None
    destinations: tuple[str, ...] = ()  # origins that are down, which it is about to call, if it is waiting


class KeptTurn(NamedTuple):
    """The turn of an order key that an execution keeps which faulted."""

    seq: int
    root: str  # see `ExecutionRecord.root`
    since_ms: int  # when it faulted
    flow_id: str
    order_key: str


class Work(NamedTuple):
    """What a runner needs to run an execution."""

    seq: int
    flow_revision: int
    payload: bytes
    journal: tuple[JournalEntry, ...]  # its entries, in order, from the last one that compacted
    journal_start: int = 0  # index of the first entry; 0 if absent
    effect_scope: str = ""  # ID of the execution that idempotency keys are derived from; empty: its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord(Execution):
    """An execution as stored, without its event and journal."""

    seq: int  # position of its event in the shard's log
    effect_scope: str = ""  # ID of the execution that idempotency keys are derived from; empty: its own
    order_key: str = ""  # see `NewEvent`
    quiet: bool = False  # see `NewEvent`
    shaping: ShapingKeys | None = None  # see `NewEvent`
    replay_root: str = ""  # of a replay: ID of the execution that the first of chained replays replayed

    @property
    def root(self) -> str:
        """ID that an execution and all of its replays share."""
        return self.replay_root or self.id


class ExecutionPage(NamedTuple):
    """Part of a list of executions, newest first, or of a walk over them, oldest first."""

    records: list[ExecutionRecord]
    next_seq: int | None  # number before or after which it continues; None: nothing more meets the conditions


class ExecutionContent(NamedTuple):
    """The large parts of an execution: its event, journal and results; and its search attributes by name."""

    payload: bytes
    journal: tuple[JournalEntry, ...]
    output: bytes | None
    reply: bytes | None
    journal_start: int = 0
    attributes: tuple[tuple[str, str], ...] = ()


class JournalSize(NamedTuple):
    """Number of a journal's entries, and bytes of their keys and outputs."""

    entries: int
    bytes: int


class ExecutionResult(NamedTuple):
    """Results for the caller of an execution: its reply, if it gave one, and its output once it has ended."""

    output: bytes | None
    reply: bytes | None


class Erasure(NamedTuple):
    """The erasure of an event."""

    # the execution that it started and the replays of that, as far as they were stored; oldest first
    execution_ids: tuple[str, ...]
    flow_id: str  # ID of their flow
    time_ms: int  # Unix time when it was erased


class Cause(NamedTuple):
    """An execution that caused another, and how."""

    execution_id: str
    kind: LinkKind


class EventReceived(NamedTuple):
    """An execution received an event; its emitter, if it has one, is stored as a cause.

    It is written in one `write` with the change that delivers the event, and not after `Consumed`; a second one is a
    no-op. For an execution that has ended it is one, too. Of many emitters, the `limits.MAX_LINKED_EMITTERS` newest are
    retained.
    """

    seq: int  # the execution
    number: int  # of the event


MAX_ATTEMPTS: Final = 16  # attempts of one execution that are stored, the newest ones


class AttemptInterrupted(NamedTuple):
    """An attempt at an execution ended without an outcome; `attempt` has an end and an end time.

    For an execution that has ended, it is a no-op. One that ends the execution is written before its end. At most
    `MAX_ATTEMPTS` of an execution are stored: the oldest is removed for a new one, and counted. Conditions on attempts
    are looked up here: before attempt 3, one of a number of at least 2 was interrupted.

    An attempt that ended by `ROUTER_RESTARTED` is stored once: the next restart finds it begun again if no runner has
    had the execution since.
    """

    seq: int
    attempt: Attempt


class AttemptRefunded(NamedTuple):
    """The last stored attempt of a runner at an execution that is charged is not charged any more."""

    seq: int
    runner: str


class NewInboundEvent(NamedTuple):
    """An event to append, for executions of a flow that listen for it."""

    event_id: str
    flow_id: str
    callback: bool  # whether it was sent to one of the flow's callbacks, which `type` then names
    type: str
    receive_time_ms: int  # Unix time
    payload: bytes  # the event as JSON of CloudEvents 1.0; at most `limits.MAX_RESULT_BYTES`
    expire_at_ms: int = 0  # Unix time until which it is retained. Its ID is retained as long, and for at least a day
    dedupe_key: str = ""  # scoped to the flow, and within it to the callback; empty: the event is never deduplicated
    dedupe_until_ms: int = 0  # Unix time until which another event with this key is a duplicate of this one
    execution_id: str = ""  # the one execution it is addressed to; empty: any that listens for it
    token: str = ""  # a single-use token, scoped to the flow: one event is stored for it; or empty
    token_until_ms: int = 0  # Unix time until which a used token is retained
    # whether a callback's event goes to all executions that wait for it, not to one. An emitted event always goes
    # to all
    to_all: bool = False
    check_only: bool = False  # store nothing, only check whether it was stored before
    emitter: str = ""  # ID of the execution whose event it is; empty: of none


class InboundEventAppended(NamedTuple):
    """Result of appending one event for running executions."""

    number: int  # its number among all such events, from 1, ascending; 0 when it is `gone`, or is new and `check_only`
    # ID of the event stored earlier under the same event ID or dedupe key, in which case `number` is the earlier
    # event's; empty when this one is new
    duplicate_of: str = ""
    # nothing was stored, because its token was used before, or because the execution it is addressed to has ended
    # or is unknown
    gone: bool = False


class StoredInboundEvent(NamedTuple):
    """A durable event for running executions, as reported to the shard's owner, or read by it when it starts."""

    number: int  # its number
    # as it was appended; when read, without ID, times, keys and payload: see `ShardState.inbound_payloads`
    event: NewInboundEvent
    seq: int = 0  # the execution that it is addressed to; 0: any that listens for it


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
    | RateReserved
    | GroupLeft
    | Delivered
    | Consumed
    | EventReceived
    | LifecycleRecorded
    | LifecyclePublished
    | Resolved
    | TurnKept
    | TurnReleased
    | AttemptInterrupted
    | AttemptRefunded
)
