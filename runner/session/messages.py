"""What runner and router say to each other over Attach, and what the runner does about it: plain data.

Source: protos/flowhook/v1/runner_service.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Reply, Subscription, WorkflowError


# --- what the router says ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Welcome:
    """The attachment stands.

    `lease_seconds` from receipt; `kept` are those of the held leases that are still good; `takes_bundles`: several
    messages may be sent as one; `answers_renewals`: each `Renewal` is answered, by `Renewed`.
    """

    lease_seconds: float
    kept: frozenset[bytes]
    takes_bundles: bool = False
    answers_renewals: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one execution.

    Attributes:
        event: a serialized Event.
        journal: entries from the last one that compacted; the first has index `journal_start`.
        effect_scope: what idempotency keys are made of; empty: the execution's own ID.
    """

    lease: bytes
    attempt: int
    flow_revision: int
    event: bytes
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0
    effect_scope: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Work to do."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Checkpoints are durable: by lease those up to an index, and up to a number those without an entry."""

    durable: tuple[tuple[bytes, int, int], ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """Outcomes are durable."""

    leases: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Leases are gone."""

    leases: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """All leases that were not revoked are good for their full time from when a `Renewal` was made, at `moment`."""

    moment: float


@dataclass(frozen=True, slots=True)
class RouterDrains:
    """The router is going away; it takes outcomes for `grace` more seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came for an execution that said, as its `generation`th word, what it waits for.

    `number` is what the checkpoint has to name that takes it in; 0: nothing.
    """

    lease: bytes
    generation: int
    number: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came for executions that are worked on."""

    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True, slots=True)
class Interest:
    """Types of lifecycle events that are to be told, and no others."""

    types: frozenset[str]


Incoming = Welcome | Assigned | Checkpointed | Settled | Revoked | Renewed | RouterDrains | Arrivals | Interest


# --- what is said to the router ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Hello:
    """Who attaches, and what is still held; see the protos."""

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
    """One more journal entry of an execution, at `index` from 0.

    `compacts`: the entries before it may go. `reply` is what its sender is answered with. `arrival`: number of the
    arrival that it takes in, if any. `events` happened before it. Without an entry they are all there is; `index` is
    that of the next entry then, and `number` counts them. `history`: what tasks came to before it.
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
class Checkpoints:
    """Journal entries to make durable."""

    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Completed:
    """The flow ended well; `output` is JSON."""

    output: bytes


@dataclass(frozen=True, slots=True)
class Faulted:
    """The flow ended with an error."""

    error: WorkflowError


@dataclass(frozen=True, slots=True)
class Released:
    """The execution is given back; `charged`: the attempt counts."""

    reason: str
    charged: bool


@dataclass(frozen=True, slots=True)
class Parked:
    """The execution waits: until a moment in Unix milliseconds, if any, or until something comes that it waits for."""

    wake_at_ms: int | None
    subscriptions: tuple[Subscription, ...] = ()


Ending = Completed | Faulted | Released | Parked


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended, what happened before, and what tasks came to."""

    lease: bytes
    ending: Ending
    events: tuple[LifecycleEvent, ...] = ()
    history: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Ends of attempts to make durable."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Listening:
    """What an execution waits for while calls of it are under way; see the protos."""

    lease: bytes
    generation: int
    subscriptions: tuple[Subscription, ...]


@dataclass(frozen=True, slots=True)
class Listenings:
    """What executions wait for."""

    listening: tuple[Listening, ...]


Outgoing = Hello | Credit | Renewal | Checkpoints | Listenings | Outcomes


# --- what is to be done -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Attached:
    """The stream is ready; renew leases every `renew_seconds`."""

    renew_seconds: float


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to work on an assignment."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Proceed:
    """The journal of an execution is durable up to `index`: its next effect may start."""

    lease: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Extended:
    """Leases are known to be good for longer: what was not begun because they might be lost may begin."""


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Go on with what came; the checkpoint of `entry` has to name `number`."""

    lease: bytes
    number: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop working on a lease and discard the result."""

    lease: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The outcome of a lease is durable."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Reattach:
    """Open a new stream once the router closed this one, or after `grace` seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell lifecycle events of these types from now on."""

    types: frozenset[str]


Effect = Attached | Start | Proceed | Extended | TakeIn | Abandon | Forget | Reattach | Tell
