"""What the host asks of an attached runner, and what runners report. Plain types; the gRPC service translates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from flowhook.errors import FlowhookError
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Subscription, WorkflowError


class Delivery(NamedTuple):
    """One attempt at one execution, as it goes to a runner.

    Attributes:
        payload: the serialized event.
        journal_start: index of the first entry of `journal`.
        effect_scope: ID of the execution that idempotency keys are made of; empty: its own.
    """

    token: bytes
    attempt: int
    flow_revision: int
    payload: bytes
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0
    effect_scope: str = ""


class Checkpoint(NamedTuple):
    """One more journal entry of the execution under a lease, at `position` from 0.

    `compacts`: those before it are no longer needed. `reply` is what the execution answers with this, serialized.
    `arrival`: number of what was handed over (`HandedOver`) and this takes in; 0: none. `events` happened before it.
    Without an entry these are all there is; `position` is that of the next entry then, and `number` counts them.
    `history`: what tasks came to before it, for people; JSON.
    """

    token: bytes
    position: int
    entry: JournalEntry | None
    compacts: bool = False
    reply: bytes | None = None
    arrival: int = 0
    events: tuple[LifecycleEvent, ...] = ()
    number: int = 0
    history: bytes = b""


class Listening(NamedTuple):
    """What an execution under a lease waits for while it is worked on, in place of what it said before.

    `generation`: tells what is said under one lease apart.
    """

    token: bytes
    generation: int
    subscriptions: tuple[Subscription, ...]


class HandedOver(NamedTuple):
    """What came for an execution that said, as `generation`, what it listens for; `number` as in `Checkpoint`."""

    token: bytes
    generation: int
    number: int
    entry: JournalEntry


class Completed(NamedTuple):
    """The flow ended well. `output` is JSON, `reply` a serialized reply."""

    output: bytes
    reply: bytes | None = None


class Parked(NamedTuple):
    """The execution waits; `wake_at_ms`: Unix time at which it is to go on, None: no time makes it go on.

    `subscriptions` are what else makes it go on.
    """

    wake_at_ms: int | None
    subscriptions: tuple[Subscription, ...] = ()


class Released(NamedTuple):
    """The runner gives the execution back; `charged` when it is known to have broken something.

    `to_back`: the others of its flow that are ready go first.
    """

    reason: str
    charged: bool
    to_back: bool = False


class Outcome(NamedTuple):
    """How an attempt ended, with the entries journaled since the last checkpoint, and what happened after these.

    `history`: what tasks came to after them, for people; JSON.
    """

    token: bytes
    checkpoints: tuple[Checkpoint, ...]
    result: Completed | WorkflowError | Released | Parked
    events: tuple[LifecycleEvent, ...] = ()
    history: bytes = b""


class RunnerLink(Protocol):
    """An attached runner. Calls never block and never fail; what can't be sent is dropped with the stream.

    What is `urgent` is sent at once, with all that waits; the rest may gather for some milliseconds.
    """

    @property
    def runner_id(self) -> str:
        """Unique among runners."""
        ...

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that no more work should be handed over for now."""
        ...

    async def room(self) -> None:
        """Wait until it is not `full`, or closed."""
        ...

    def assign(self, deliveries: Sequence[Delivery], *, urgent: bool = False) -> None:
        """Hand over work."""
        ...

    def hand_over(self, arrival: HandedOver, *, urgent: bool = False) -> None:
        """Hand over what came for an execution that is worked on."""
        ...

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Tell how far the journal of an execution is durable, and its checkpoints without an entry."""
        ...

    def want(self, types: Collection[str]) -> None:
        """Tell which lifecycle events others want of what only runners know."""
        ...

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Tell which outcomes are durable."""
        ...

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Tell which leases are gone, because of `LEASE_LOST`, `EXECUTION_CANCELLED` or `EXECUTION_SUSPENDED`."""
        ...

    def close(self, error: FlowhookError) -> None:
        """End the stream."""
        ...
