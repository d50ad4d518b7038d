"""Messages of the Attach protocol and effects of the runner's session, as plain data.

Source: protos/flowhook/v1/runner_service.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Reply, Subscription, WorkflowError


# --- from the router --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Welcome:
    """The router accepts the runner.

    Attributes:
        lease_seconds: length of every lease, from receipt.
        kept: the held leases that are still valid.
        takes_bundles: several messages may be sent as one.
        answers_renewals: each `Renewal` is answered by `Renewed`.
    """

    lease_seconds: float
    kept: frozenset[bytes]
    takes_bundles: bool = False
    answers_renewals: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one execution.

    Attributes:
        lease: identifies the attempt.
        attempt: 1 for the first attempt.
        flow_revision: revision of the flow to run.
        event: a serialized Event.
        journal: entries from the last one that compacted; the first has index `journal_start`.
        journal_start: index of the first entry.
        effect_scope: ID that idempotency keys are derived from; empty: the execution's own ID.
    """

    lease: bytes
    attempt: int
    flow_revision: int
    event: bytes
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0
    effect_scope: str = ""


@dataclass(frozen=True, slots=True)
class AssignmentBatch:
    """New assignments."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Checkpoints are durable, by lease: entries up to an index, checkpoints without an entry up to a number."""

    durable: tuple[tuple[bytes, int, int], ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """Outcomes are durable."""

    leases: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Leases are revoked."""

    leases: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """All leases that were not revoked are valid for their full length from `moment`, when the `Renewal` was made."""

    moment: float


@dataclass(frozen=True, slots=True)
class RouterDrains:
    """The router is shutting down; it accepts outcomes for `grace` more seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, or the end of an execution, that matches a running execution's subscriptions.

    Attributes:
        lease: of the execution.
        generation: of the subscriptions that it matches (`SubscriptionUpdate`).
        number: to put into `Checkpoint.arrival` of the entry that consumes it; 0: none.
        entry: to journal.
    """

    lease: bytes
    generation: int
    number: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class ArrivalBatch:
    """Events and ends for running executions."""

    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True, slots=True)
class LifecycleFilter:
    """The event filter: the only types of lifecycle events to report."""

    types: frozenset[str]


Incoming = (
    Welcome
    | AssignmentBatch
    | Checkpointed
    | Settled
    | Revoked
    | Renewed
    | RouterDrains
    | ArrivalBatch
    | LifecycleFilter
)


# --- to the router ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Hello:
    """Identity of the runner and its held leases; see `Hello` in the protos."""

    runner_id: str
    components: tuple[str, ...]
    build: str
    held_leases: tuple[bytes, ...]
    losses_explained: bool


@dataclass(frozen=True, slots=True)
class Credit:
    """Permits more assignments."""

    assignments: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Renews all held leases; `moment` is when it was made, on the clock of `Session.renew`."""

    moment: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The next journal entry of an execution, or only lifecycle events.

    Attributes:
        lease: of the execution.
        index: of the entry, from 0; without an entry: of the next one.
        entry: the journal entry; None: the checkpoint has `events` only.
        compacts: the entries before this one are no longer needed.
        reply: to the sender, passed on once the entry is durable.
        arrival: number of the arrival that the entry consumes; 0: none.
        events: lifecycle events from before the entry.
        number: counts the checkpoints without an entry, from 1; 0: it has one.
        history: progress of tasks before the entry, for display; JSON.
    """

    lease: bytes
    index: int
    entry: JournalEntry | None
    compacts: bool = False
    reply: Reply | None = None
    arrival: int = 0
    events: tuple[LifecycleEvent, ...] = ()
    number: int = 0
    history: bytes = b""


@dataclass(frozen=True, slots=True)
class CheckpointBatch:
    """Journal entries to make durable."""

    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Completed:
    """The flow completed; `output` is JSON."""

    output: bytes


@dataclass(frozen=True, slots=True)
class Faulted:
    """The flow ended with an error."""

    error: WorkflowError


@dataclass(frozen=True, slots=True)
class Released:
    """The runner gives the execution back unfinished; `charged`: the attempt counts."""

    reason: str
    charged: bool


@dataclass(frozen=True, slots=True)
class Parked:
    """The execution waits until `wake_at_ms` (Unix time; None: no timer), or until a subscription matches."""

    wake_at_ms: int | None
    subscriptions: tuple[Subscription, ...] = ()


Ending = Completed | Faulted | Released | Parked


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended, with the lifecycle events and the history of tasks since the last entry."""

    lease: bytes
    ending: Ending
    events: tuple[LifecycleEvent, ...] = ()
    history: bytes = b""


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """Outcomes to make durable."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class SubscriptionUpdate:
    """Subscriptions of an execution that has calls in flight; see `Listening` in the protos."""

    lease: bytes
    generation: int
    subscriptions: tuple[Subscription, ...]


@dataclass(frozen=True, slots=True)
class SubscriptionBatch:
    """Subscriptions of several executions."""

    listening: tuple[SubscriptionUpdate, ...]


Outgoing = Hello | Credit | Renewal | CheckpointBatch | SubscriptionBatch | OutcomeBatch


# --- effects ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class AttachAccepted:
    """The stream is ready; renew leases every `renew_seconds`."""

    renew_seconds: float


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Start working on an assignment."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Proceed:
    """The journal of an execution is durable up to `index`: its next effect may start."""

    lease: bytes
    index: int


@dataclass(frozen=True, slots=True)
class LeasesConfirmed:
    """Leases are confirmed for longer: effects that were held because a lease might be lost may start."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver an arrival to its execution; the checkpoint of `entry` must have `number` as its `arrival`."""

    lease: bytes
    number: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop working on a lease and discard the result."""

    lease: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """The outcome of a lease is durable."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Reattach:
    """Open a new stream once the router closed this one, or after `grace` seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class SetLifecycleFilter:
    """Report lifecycle events of these types, and of no others, from now on."""

    types: frozenset[str]


Effect = (
    AttachAccepted
    | StartAttempt
    | Proceed
    | LeasesConfirmed
    | Deliver
    | Abandon
    | ReleaseOutcome
    | Reattach
    | SetLifecycleFilter
)
