"""One attempt in hand, and what it goes on with."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from flowhook import logs
from flowhook.lifecycle import LifecycleEvent
from flowhook.model import Event, JournalEntry, WorkflowError
from runner.attachments import NO_ATTACHMENTS, Attachments
from runner.calls import place_of
from runner.interpreter import effects
from runner.interpreter.errors import Kind, error
from runner.interpreter.run import Run
from runner.interpreter.scope import Workflow

log = logs.get_logger(__name__)

Returned = tuple[effects.Perform, effects.Result]
"""An effect with its result."""

News = effects.Came | None
"""What an execution goes on with: something that it waits for, or what was handed in, or that time has passed."""


class Launch(Enum):
    """What else an execution may have its turn for."""

    TURN = "to begin a call"


@dataclass(slots=True, eq=False)
class Execution:
    """One attempt in hand.

    Attributes:
        effect_scope: what idempotency keys are made of.
        written: index of the next journal entry.
        binding: index after the last entry that has to be durable before an effect starts.
        durable: index after the last entry known to be durable.
        held: effects that wait until the journal is durable up to an index, or for their turn.
        launching: whether it waits for its turn to begin a call.
        preparing: what fetches something for it just now.
        attachments: those of its event.
        calls: effects that are performed, or whose result waits for the pump, by key.
        timer: what goes on with it when a moment has come.
        told: what happened in its last turn, after the last journal entry, and is yet to be told.
        reticent: some of that was too much already.
        workflow: what `run` is made of.
        apart: what drives it in quarantine just now.
        later: what came meanwhile, for it to go on with.
        turn_ends: when others get their turn while it is driven in quarantine; 0: it is not.
    """

    lease: bytes
    event: Event
    revision: int
    journal: tuple[JournalEntry, ...]
    effect_scope: str
    written: int
    run: Run | None = None
    binding: int = 0
    durable: int = 0
    held: deque[tuple[int, effects.Perform]] = field(default_factory=deque)
    launching: bool = False
    attachments: Attachments = NO_ATTACHMENTS
    preparing: asyncio.Task[None] | None = field(default=None, repr=False)
    calls: dict[str, tuple[effects.Perform, asyncio.Task[None]]] = field(default_factory=dict, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    told: tuple[LifecycleEvent, ...] = ()
    reticent: bool = False
    workflow: Workflow | None = field(default=None, repr=False)
    apart: asyncio.Task[None] | None = field(default=None, repr=False)
    later: list[Returned | News] = field(default_factory=list, repr=False)
    turn_ends: float = 0.0


def defect(execution: Execution, problem: Exception) -> WorkflowError:
    """Log an exception that nobody reckoned with, and return the error that ends the execution."""
    cause = type(problem).__name__
    log.error("interpreter failed", execution=execution.event.id, cause=cause, place=place_of(problem))
    return error(Kind.RUNTIME, f"the interpreter failed ({cause}); this is a defect of Flowhook")
