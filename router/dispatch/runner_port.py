"""The interface of an attached runner, and the messages that runners report.

Plain types; the gRPC service converts them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from flowhook.errors import FlowhookError
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Subscription, WorkflowError


class RunnerAssignment(NamedTuple):
    """An assignment: one attempt at one execution, as it is sent to a runner.

    Attributes:
        token: of the lease.
        attempt: number of the attempt.
        flow_revision: revision of the flow to run.
        payload: the serialized event.
        journal: the entries that are stored.
        journal_start: index of the first entry of `journal`.
        effect_scope: ID of the execution that idempotency keys are derived from; empty: its own.
    """

    token: bytes
    attempt: int
    flow_revision: int
    payload: bytes
    journal: tuple[JournalEntry, ...] = ()
    journal_start: int = 0
    effect_scope: str = ""


class ReportedCheckpoint(NamedTuple):
    """A journal entry that a runner reports for the execution under a lease, or only lifecycle events.

    Attributes:
        token: of the lease.
        position: index of the entry, from 0; without an entry: of the next one.
        entry: the journal entry; None: the checkpoint has `events` only.
        compacts: the entries before this one are no longer needed.
        reply: the reply that the execution gives with this entry, serialized.
        arrival: number of the event that was handed over (`EventDelivery`) and this entry consumes; 0: none.
        events: lifecycle events from before the entry.
        number: counts the checkpoints without an entry.
        history: progress of tasks before the entry, for display; JSON.
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


class LiveSubscriptions(NamedTuple):
    """Subscriptions of a running execution; they replace earlier ones. `generation` numbers them within a lease."""

    token: bytes
    generation: int
    subscriptions: tuple[Subscription, ...]


class EventDelivery(NamedTuple):
    """An event or end that matches a running execution's subscriptions.

    `generation` is that of the subscriptions (`LiveSubscriptions`); `number` is what `ReportedCheckpoint.arrival`
    refers to.
    """

    token: bytes
    generation: int
    number: int
    entry: JournalEntry


class AttemptCompleted(NamedTuple):
    """The execution completed. `output` is JSON, `reply` a serialized reply."""

    output: bytes
    reply: bytes | None = None


class AttemptParked(NamedTuple):
    """The execution waits until `wake_at_ms` (Unix time; None: no timer), or until a subscription matches."""

    wake_at_ms: int | None
    subscriptions: tuple[Subscription, ...] = ()


class AttemptReleased(NamedTuple):
    """The runner gives the execution back unfinished.

    Attributes:
        reason: why.
        charged: the attempt counts, because the execution is known to have caused damage.
        to_back: the other ready executions of its flow go first.
    """

    reason: str
    charged: bool
    to_back: bool = False


class AttemptOutcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        token: of the lease.
        checkpoints: entries journaled since the last checkpoint that was sent.
        result: completed, faulted (an error), released or parked.
        events: lifecycle events from after the checkpoints.
        history: progress of tasks after the checkpoints, for display; JSON.
    """

    token: bytes
    checkpoints: tuple[ReportedCheckpoint, ...]
    result: AttemptCompleted | WorkflowError | AttemptReleased | AttemptParked
    events: tuple[LifecycleEvent, ...] = ()
    history: bytes = b""


class RunnerPort(Protocol):
    """An attached runner. Calls never block and never fail; messages that can't be sent are dropped with the stream.

    `urgent` messages are sent at once, together with all that are queued; others may be batched for some milliseconds.
    """

    @property
    def runner_id(self) -> str:
        """ID of the runner, unique among runners."""
        ...

    @property
    def full(self) -> bool:
        """Back-pressure: whether so much is queued for sending that no more work should be assigned for now."""
        ...

    async def room(self) -> None:
        """Wait until the runner is not `full`, or its stream is closed."""
        ...

    def assign(self, deliveries: Sequence[RunnerAssignment], *, urgent: bool = False) -> None:
        """Send assignments."""
        ...

    def hand_over(self, arrival: EventDelivery, *, urgent: bool = False) -> None:
        """Send an event or end to an execution that the runner is running."""
        ...

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Acknowledge an execution's journal up to `position`, and checkpoints without an entry up to `number`."""
        ...

    def want(self, types: Collection[str]) -> None:
        """Send the types of lifecycle events to report, of those that only runners can report."""
        ...

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge outcomes that are durable."""
        ...

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Revoke leases; the reason is `LEASE_LOST`, `EXECUTION_CANCELLED` or `EXECUTION_SUSPENDED`."""
        ...

    def close(self, error: FlowhookError) -> None:
        """End the stream with an error."""
        ...
