"""Messages of the Attach protocol in both directions, as plain immutable classes.

There are several of some in each execution, and many of those in one message of the stream: assignments, checkpoints,
outcomes and their parts are named tuples, which take a third of the time to create that frozen dataclasses do.
Everything of which there is one in a message of the stream is a dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from flowhook.model import JournalEntry, Retry, Subscription, WorkflowError

if TYPE_CHECKING:
    from flowhook.events.lifecycle import LifecycleEvent  # processes that report none should not load the module


# --- from router to runner --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Welcome:
    """The router accepts the runner."""

    lease_duration: float  # length of every lease in seconds, from receipt
    retained_leases: frozenset[bytes]  # the leases of `Hello.held_leases` that are still valid


class Assignment(NamedTuple):
    """One attempt at one execution."""

    lease: bytes  # token that identifies the attempt
    attempt: int  # 1 for the first attempt
    flow_revision: int  # revision of the flow to run
    event: bytes  # a serialized Event
    # entries from the last one that compacted; the first has index `journal_start`
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0  # index of the first entry
    effect_scope: str = ""  # ID that idempotency keys are derived from; empty: the execution's own ID
    destination: str = ""  # origin of a destination that is down, which it may call once; empty: none
    destination_failure: str = ""  # if not empty, that call fails with this cause instead
    resumed: bool = False  # whether an earlier attempt ended, in whatever way


@dataclass(frozen=True, slots=True)
class AssignmentBatch:
    """New assignments, never more than the outstanding credit."""

    assignments: tuple[Assignment, ...]


class EventDelivery(NamedTuple):
    """An event, or the end of an execution, that matches a running execution's subscriptions."""

    lease: bytes  # of the execution
    generation: int  # of the subscriptions that it matches (`SubscriptionUpdate`); obsolete if there is a later one
    number: int  # to put into `Checkpoint.consumed` of the entry that consumes it; 0: none
    entry: JournalEntry  # to journal


@dataclass(frozen=True, slots=True)
class EventDeliveryBatch:
    """Events and ends for running executions."""

    deliveries: tuple[EventDelivery, ...]


class DurableCheckpoint(NamedTuple):
    """How far the journal of an execution is durable."""

    lease: bytes  # of the execution
    # of the last durable entry; -1: none
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is not used here
    number: int  # `Checkpoint.number` of the last durable checkpoint without an entry; 0: none


@dataclass(frozen=True, slots=True)
class CheckpointAck:
    """Checkpoints are durable: the next effects may start."""

    checkpoints: tuple[DurableCheckpoint, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """Outcomes are durable."""

    leases: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """Leases are lost; the reason is `LEASE_LOST`, `EXECUTION_CANCELLED` or `EXECUTION_SUSPENDED`."""

    leases: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """Leases that were not revoked are valid for their full length from when the `Renewal` with `stamp` was made."""

    stamp: int


@dataclass(frozen=True, slots=True)
class LifecycleFilter:
    """The only types of lifecycle events to report; replaces the one before. Initially none are reported."""

    event_types: frozenset[str]


class DestinationState(IntEnum):
    """What the router knows of a flow's calls to a destination."""

    UNKNOWN = 0  # nothing is wrong with it
    WATCHED = 1  # calls failed: successes are reported, too
    PARKS = 2  # it is down: executions park before they call it


class DestinationUpdate(NamedTuple):
    """The state of a destination from now on, for the calls of one flow."""

    flow_id: str
    origin: str
    state: DestinationState


@dataclass(frozen=True, slots=True)
class DestinationUpdates:
    """States of destinations that have changed; at first of all that are not `UNKNOWN`."""

    updates: tuple[DestinationUpdate, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """The router is shutting down; it accepts checkpoints and outcomes for `grace` more seconds."""

    grace: float


RouterMessage = (
    Welcome
    | AssignmentBatch
    | EventDeliveryBatch
    | CheckpointAck
    | Settlement
    | Revocation
    | Renewed
    | LifecycleFilter
    | DestinationUpdates
    | Drain
)


# --- from runner to router --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Hello:
    """Identity of the runner and its held leases."""

    runner_id: str  # unique among runners; stays when the working process is restarted
    components: tuple[str, ...]  # names of the functions that the runner can call
    build: str  # version of the software, for people
    held_leases: tuple[bytes, ...]  # leases that are worked on, or whose outcome is not settled
    losses_explained: bool  # whether only those lost leases are charged an attempt whose outcome this runner reports


@dataclass(frozen=True, slots=True)
class Credit:
    """Permits more assignments, in [1, `limits.MAX_CREDIT`]."""

    assignments: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Renews all held leases; `stamp` is when it was made, in microseconds of the runner's own clock."""

    stamp: int


class Checkpoint(NamedTuple):
    """The next journal entry of an execution, or only lifecycle events."""

    lease: bytes  # of the execution
    # of the entry, from 0; without an entry: of the next one
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is not used here
    entry: JournalEntry | None  # the journal entry; None: the checkpoint has `events` only
    compacts: bool = False  # the entries before this one are no longer needed
    reply: bytes | None = None  # a serialized Reply to the sender, passed on once the entry is durable
    consumed: int = 0  # number of the `EventDelivery` that the entry consumes; 0: none
    events: tuple[LifecycleEvent, ...] = ()  # lifecycle events from before the entry
    number: int = 0  # counts the checkpoints of this lease without an entry, from 1; 0: it has one
    history: bytes = b""  # progress of tasks before the entry, for display; JSON


@dataclass(frozen=True, slots=True)
class CheckpointBatch:
    """Journal entries to make durable."""

    checkpoints: tuple[Checkpoint, ...]


class Completed(NamedTuple):
    """The flow completed. `output` is JSON, `reply` a serialized Reply to the sender."""

    output: bytes
    reply: bytes | None = None


class Faulted(NamedTuple):
    """The flow ended with an error."""

    error: WorkflowError


class Released(NamedTuple):
    """The runner gives the execution back unfinished."""

    reason: str
    charged: bool  # the attempt counts
    # the other ready executions of its flow go first. Implied by the report of an exit, and not sent.
    to_back: bool = False


class Parked(NamedTuple):
    """The execution waits until `wake_at_ms` (Unix time; None: no timer), or until a subscription matches.

    `retry`: what failed and is tried again when the wait is over, if anything. `destinations`: origins that are down,
    which it is about to call; the router wakes it for one of them.
    """

    wake_at_ms: int | None
    subscriptions: tuple[Subscription, ...] = ()
    retry: Retry | None = None
    destinations: tuple[str, ...] = ()


Ending = Completed | Faulted | Released | Parked


class Outcome(NamedTuple):
    """How one attempt ended."""

    lease: bytes  # of the execution
    ending: Ending  # completed, faulted, released or parked
    events: tuple[LifecycleEvent, ...] = ()  # lifecycle events since the last entry
    history: bytes = b""  # progress of tasks since the last entry, for display; JSON
    checkpoints: tuple[Checkpoint, ...] = ()  # entries after the last checkpoint that was sent, stored with the outcome


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """Outcomes to make durable."""

    outcomes: tuple[Outcome, ...]


class SubscriptionUpdate(NamedTuple):
    """The subscriptions of an execution that has calls in flight; they replace earlier ones."""

    lease: bytes  # of the execution
    generation: int  # number of the update within the lease; grows by one each time
    subscriptions: tuple[Subscription, ...]  # what it waits for; empty: nothing


@dataclass(frozen=True, slots=True)
class SubscriptionBatch:
    """Subscriptions of several executions."""

    updates: tuple[SubscriptionUpdate, ...]


class CallReport(NamedTuple):
    """How calls of a flow to a destination ended since the report before."""

    flow_id: str
    origin: str
    successes: int
    failures: int  # calls that failed so that the destination may be down, since the last that succeeded
    cause: str = ""  # why the last of them failed
    retry_after_ms: int = 0  # wait that the destination asked for then
    earlier_failures: int = 0  # calls that failed before the last that succeeded
    permitted: bool = False  # whether one that failed was permitted by `Assignment.destination`


@dataclass(frozen=True, slots=True)
class CallReports:
    """Outcomes of calls."""

    reports: tuple[CallReport, ...]


RunnerMessage = Hello | Credit | Renewal | CheckpointBatch | SubscriptionBatch | OutcomeBatch | CallReports
