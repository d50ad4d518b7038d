"""State of one attempt at an execution while this runner works on it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from flowhook import logs
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import Event, JournalEntry, WorkflowError
from runner.interpreter import effects
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.scope import ExecutionContext
from runner.outbound.attachments import NO_ATTACHMENTS, Attachments
from runner.worker.effect_executor import source_location

log = logs.get_logger(__name__)

CallResult = tuple[effects.Perform, effects.EffectResult]
"""An effect with its result."""

TurnInput = effects.ExternalEvent | None
"""Input for the next turn: an awaited event; None: a result was handed in, or time has passed."""


class StartCall(Enum):
    """A queue entry that starts a call instead of driving the interpreter."""

    TURN = "to begin a call"


@dataclass(slots=True, eq=False)
class ActiveExecution:
    """One attempt at an execution, under a lease.

    Attributes:
        effect_scope: ID that idempotency keys are derived from.
        written: index of the next journal entry.
        binding: index after the last entry that must be durable before an effect starts.
        durable: index after the last entry known to be durable.
        held: effects that wait until the journal is durable up to an index, or for their turn.
        launching: whether a `StartCall.TURN` is queued, to start the next effect.
        preparing: the task that fetches flow, secrets and body; None: none is running.
        attachments: of the event.
        calls: effects in flight, by key, each with its task.
        timer: resumes the execution at its wake time.
        told: lifecycle events of the last turn, after the last journal entry, that are not sent yet.
        events_dropped: whether lifecycle events were already dropped because too many were pending.
        workflow: the arguments that `run` was created with.
        apart: the task that drives the execution in quarantine; None: none is running.
        later: results and events that arrived while `apart` was running.
        turn_ends: end of the present turn in quarantine, on the monotonic clock in seconds; 0: not driven there.
    """

    lease: bytes
    event: Event
    revision: int
    journal: tuple[JournalEntry, ...]
    effect_scope: str
    written: int
    run: ExecutionMachine | None = None
    binding: int = 0
    durable: int = 0
    held: deque[tuple[int, effects.Perform]] = field(default_factory=deque)
    launching: bool = False
    attachments: Attachments = NO_ATTACHMENTS
    preparing: asyncio.Task[None] | None = field(default=None, repr=False)
    calls: dict[str, tuple[effects.Perform, asyncio.Task[None]]] = field(default_factory=dict, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    told: tuple[LifecycleEvent, ...] = ()
    events_dropped: bool = False
    workflow: ExecutionContext | None = field(default=None, repr=False)
    apart: asyncio.Task[None] | None = field(default=None, repr=False)
    later: list[CallResult | TurnInput] = field(default_factory=list, repr=False)
    turn_ends: float = 0.0


def report_defect(execution: ActiveExecution, problem: Exception) -> WorkflowError:
    """Log an unexpected exception and return the error that ends the execution."""
    cause = type(problem).__name__
    log.error("interpreter failed", execution=execution.event.id, cause=cause, place=source_location(problem))
    return error(Kind.RUNTIME, f"the interpreter failed ({cause}); this is a defect of Flowhook")
