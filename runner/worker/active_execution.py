"""State of one attempt at an execution while this runner works on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from flowhook.attach import messages
from flowhook.events.lifecycle import LifecycleEvent
from flowhook.model import Event, JournalEntry, WorkflowError
from flowhook.process import logs
from flowhook.tracing.context import log_fields, trace_id_of
from runner.interpreter import effects
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.metrics import METRICS
from runner.outbound.destinations import Permit
from runner.worker.effect_executor import source_location
from runner.worker.execution_spans import ExecutionSpans

log = logs.get_logger(__name__)

CallResult = tuple[effects.Perform, effects.EffectResult]  # an effect with its result
# input for the next turn: an awaited event; None: the machine has a result already, or time has passed
TurnInput = effects.DeliveredEvent | None


class StartCall(Enum):
    """A queue entry that starts a call instead of driving the interpreter."""

    TURN = "start a call"


@dataclass(slots=True, eq=False)
class ActiveExecution:
    """One attempt at an execution, under a lease."""

    lease: bytes
    event: Event
    revision: int
    journal: tuple[JournalEntry, ...]
    effect_scope: str  # ID that idempotency keys are derived from
    written: int  # index of the next journal entry
    event_bytes: int = 0  # size of the event, as it was assigned
    attempt: int = 1  # 1 for the first one; those that waited are not counted
    resumed: bool = False  # whether an earlier attempt ended, in whatever way
    spans: ExecutionSpans | None = field(default=None, repr=False)  # None: it is not recorded
    machine: ExecutionMachine | None = None  # the state machine; None: the execution is not prepared yet
    takes_raw_body: bool = False  # whether the input that `machine` was created with has the body unparsed
    begun: bool = False  # whether its first turn has ended: with it, in a wait, or in a call
    binding: int = 0  # index after the last entry that must be durable before an effect starts
    durable: int = 0  # index after the last entry known to be durable
    # effects that wait until the journal is durable up to an index, or for their turn
    held: deque[tuple[int, effects.Perform]] = field(default_factory=deque)
    # effects that wait for a destination that is down, by key, each with its origin
    blocked: dict[str, tuple[effects.Perform, str]] = field(default_factory=dict)
    permit: Permit | None = None  # to call a destination that is down
    launching: bool = False  # whether a `StartCall.TURN` is queued, to start the next effect
    # the task that fetches flow, secrets and body; None: none is running
    preparing: asyncio.Task[None] | None = field(default=None, repr=False)
    # effects in flight, by key, each with its task
    calls: dict[str, tuple[effects.Perform, asyncio.Task[None]]] = field(default_factory=dict, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)  # resumes the execution at its wake time
    # those of the last turn, after the last journal entry, that are not sent yet
    lifecycle_events: tuple[LifecycleEvent, ...] = ()
    events_dropped: bool = False  # whether lifecycle events were already dropped because too many were pending
    workflow: ExecutionContext | None = field(default=None, repr=False)  # the arguments that `machine` was created with
    # drives the execution in quarantine; None: none is running
    quarantine_task: asyncio.Task[None] | None = field(default=None, repr=False)
    # results and events that arrived while `quarantine_task` was running
    postponed: list[CallResult | TurnInput] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, assignment: messages.Assignment, event: Event) -> Self:
        """Return the execution of an assignment, with its journal up to what is stored."""
        stored = assignment.journal_start + len(assignment.journal)
        return cls(
            assignment.lease,
            event,
            assignment.flow_revision,
            assignment.journal,
            assignment.effect_scope or event.id,
            written=stored,
            event_bytes=len(assignment.event),
            binding=stored,
            durable=stored,
            permit=Permit(assignment.destination, assignment.destination_failure) if assignment.destination else None,
            attempt=assignment.attempt,
            resumed=assignment.resumed,
        )

    @property
    def log_fields(self) -> dict[str, str]:
        trace_id = trace_id_of(self.event.traceparent) if self.spans is None else self.spans.trace_id
        return log_fields(self.event.id, self.event.flow_id, trace_id)

    @property
    def attachment_owner(self) -> str:
        """ID that handles of attachments begin with: the same as in the execution whose journal it continues."""
        replay = self.event.replay
        return self.effect_scope if replay is None else replay.attachment_owner or self.effect_scope

    @property
    def events(self) -> list[tuple[Event, str]]:
        """Its event and the others of its batch, each with the ID that handles of attachments begin with."""
        others = self.event.batch
        first = self.event._replace(batch=()) if others else self.event
        return [(first, self.attachment_owner), *((each, each.id) for each in others)]

    @property
    def has_due_effect(self) -> bool:
        """Whether the journal is durable as far as the next held effect requires."""
        return bool(self.held) and self.held[0][0] <= self.durable

    def update_held(self, step: effects.Step) -> None:
        """Hold the effects that a step requests, and drop those that it cancels."""
        if step.cancel:
            self.held = deque(held for held in self.held if held[1].key not in step.cancel)
            for key in step.cancel if self.blocked else ():
                self.blocked.pop(key, None)
        self.held.extend((self.binding, effect) for effect in step.perform)


class ActiveExecutions:
    """The executions of this process, by lease."""

    def __init__(self) -> None:
        self.event_bytes = 0  # size of all their events
        self._by_lease: dict[bytes, ActiveExecution] = {}
        self._by_flow: dict[str, int] = {}
        METRICS.executions = self._by_lease

    def __iter__(self) -> Iterator[ActiveExecution]:
        """Iterate over a copy: executions may be removed meanwhile."""
        return iter(list(self._by_lease.values()))

    def __len__(self) -> int:
        return len(self._by_lease)

    def __contains__(self, execution: ActiveExecution) -> bool:
        return self._by_lease.get(execution.lease) is execution

    def get(self, lease: bytes) -> ActiveExecution | None:
        return self._by_lease.get(lease)

    def in_flow(self, flow_id: str) -> int:
        return self._by_flow.get(flow_id, 0)

    def add(self, execution: ActiveExecution) -> None:
        self._by_lease[execution.lease] = execution
        flow_id = execution.event.flow_id
        self._by_flow[flow_id] = self._by_flow.get(flow_id, 0) + 1
        self.event_bytes += execution.event_bytes

    def remove(self, execution: ActiveExecution) -> None:
        if self._by_lease.pop(execution.lease, None) is not None:
            self.event_bytes -= execution.event_bytes
            flow_id = execution.event.flow_id
            self._by_flow[flow_id] -= 1
            if not self._by_flow[flow_id]:
                del self._by_flow[flow_id]


def report_defect(execution: ActiveExecution, problem: Exception) -> WorkflowError:
    """Log an unexpected exception and return the error that ends the execution."""
    cause = type(problem).__name__
    log.error("interpreter failed", **execution.log_fields, cause=cause, place=source_location(problem))
    return error(Kind.RUNTIME, f"the interpreter failed ({cause}); a bug in Flowhook, see the runner's log")
