"""The trace of an execution: the data of each of its tasks, recomputed from the event and the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flowhook import limits
from flowhook.model.executions import WorkflowError

MAX_VALUE_BYTES: Final = 16 * limits.KIB  # bytes of one value's JSON that a trace contains
MAX_BYTES: Final = limits.MIB  # bytes of all values of a trace
MAX_TASKS: Final = 1000  # tasks of a trace, in the order in which they began
MAX_BODY_BYTES: Final = limits.MIB  # bytes of a separately stored body that are read for a trace

TaskOutcome = Literal["completed", "skipped", "faulted", "cancelled", "unfinished"]
"""Outcome of a task; `unfinished`: the journal, or the trace, ends before it."""

TraceOutcome = Literal["completed", "faulted", "unfinished", "limited"]
"""How a trace ends: as the execution did; where the journal ends; or at a limit of traces."""

RequestKind = Literal[
    "call", "emit", "workflow", "wait", "retry", "timeout", "listen", "completion", "time", "given_output"
]
"""Kinds of requests: `workflow` starts another execution, `completion` waits for its end, `time` reads the clock.

`given_output`: the task was not performed, but a replay gave it an output.
"""


@dataclass(frozen=True, slots=True)
class TracedValue:
    """A value."""

    text: str  # its JSON with numbers as they are; if `cut`, only the beginning of it
    size: int  # bytes of its JSON
    cut: bool


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """What a task requested from outside, once for each attempt."""

    kind: RequestKind
    key: str  # of the journal entries that answer it
    function: str = ""  # component that a `call` names; else empty
    arguments: int | None = None  # index of the evaluated arguments; None: it has none
    result: int | None = None  # index of the journaled result, or of the received event; None if absent
    error: WorkflowError | None = None  # the journaled error
    answered: bool = False  # whether the journal has the answer
    idempotency_key: str = ""  # of an effect
    until_ms: int | None = None  # deadline of a wait, in Unix milliseconds; None: unknown, or it has none
    answered_ms: int | None = None  # time at which a wait ended, or that was read; None: unknown
    types: tuple[str, ...] = ()  # types of awaited events; empty: any, or it is no `listen`
    callbacks: tuple[str, ...] = ()  # names of awaited callbacks
    execution_id: str = ""  # the execution that was started, or is awaited


@dataclass(frozen=True, slots=True)
class TracedTask:
    """One run of one task."""

    number: int  # ordinal among all task runs of the execution, from 1: that of its `TaskRun`
    task: str  # JSON Pointer, with the indexes of the loops around it; within a function, after the key of its call
    name: str
    kind: str  # kind of task of the DSL; empty: unknown
    outcome: TaskOutcome
    input: int  # index of its input, after `input.from`
    output: int | None  # index of its output, after `output.as`; None: it has none
    context_before: int  # index of `$context` when it began
    context_after: int | None  # index of `$context` when it ended; None: it did not end
    then: str  # flow directive after it
    tries: int  # how often its operation was tried
    error: WorkflowError | None
    requests: tuple[TracedRequest, ...]
    reads_secrets: bool  # whether an expression of the task mentions secrets, whose values are placeholders here
    notes: tuple[str, ...] = ()  # about its conditions: texts that are compared with numbers


@dataclass(frozen=True, slots=True)
class TracedCallback:
    """A callback of the flow, and how many of its one-time URLs were used."""

    name: str
    used: int


@dataclass(frozen=True, slots=True)
class ExecutionTrace:
    """The trace of an execution."""

    outcome: TraceOutcome
    tasks: tuple[TracedTask, ...]
    values: tuple[TracedValue, ...]  # values that the other parts refer to by index
    output: int | None  # index of the output of the execution; None: it has none
    error: WorkflowError | None  # the error that ends the trace
    compacted: bool  # whether the journal was compacted: earlier tasks are not traced
    diverged: str  # how the trace differs from what is recorded; empty: it does not
    reads_secrets: bool  # whether a task of the trace mentions secrets
    body_missing: bool  # whether a part of the body was not available
    callbacks: tuple[TracedCallback, ...]
