"""The trace of an execution: the data of each of its tasks, recomputed from the event and the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flowhook import limits

MAX_VALUE_BYTES: Final = 16 * limits.KIB
"""Bytes of one value's JSON that a trace contains."""

MAX_BYTES: Final = limits.MIB
"""Bytes of all values of a trace."""

MAX_TASKS: Final = 1000
"""Tasks of a trace, in the order in which they began."""

MAX_BODY_BYTES: Final = limits.MIB
"""Bytes of a separately stored body that are read for a trace."""

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
    """A value.

    Attributes:
        text: its JSON with numbers as they are; if `cut`, only the beginning of it.
        size: bytes of its JSON.
    """

    text: str
    size: int
    cut: bool


@dataclass(frozen=True, slots=True)
class TracedResponse:
    """What was answered to a call that failed; see `flowhook.model.FailedResponse`."""

    status: int
    url: str
    body: str
    size: int


@dataclass(frozen=True, slots=True)
class TracedError:
    """An error: a problem detail of RFC 9457. `response`: what was answered to the call that failed, if anything."""

    type: str
    status: int
    title: str
    instance: str
    detail: str
    response: TracedResponse | None = None


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """What a task requested from outside, once for each attempt.

    Attributes:
        key: of the journal entries that answer it.
        function: component that a `call` names; else empty.
        arguments: index of the evaluated arguments; None: it has none.
        result: index of the journaled result, or of the received event; None if absent.
        error: the journaled error.
        answered: whether the journal has the answer.
        idempotency_key: of an effect.
        until_ms: deadline of a wait, in Unix milliseconds; None: unknown, or it has none.
        answered_ms: time at which a wait ended, or that was read; None: unknown.
        types: types of awaited events; empty: any, or it is no `listen`.
        callbacks: names of awaited callbacks.
        execution_id: the execution that was started, or is awaited.
    """

    kind: RequestKind
    key: str
    function: str = ""
    arguments: int | None = None
    result: int | None = None
    error: TracedError | None = None
    answered: bool = False
    idempotency_key: str = ""
    until_ms: int | None = None
    answered_ms: int | None = None
    types: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()
    execution_id: str = ""


@dataclass(frozen=True, slots=True)
class TracedTask:
    """One run of one task.

    Attributes:
        number: ordinal among all task runs of the execution, from 1: that of its `TaskRun`.
        task: JSON Pointer, with the indexes of the loops around it; within a function, after the key of its call.
        kind: kind of task of the DSL; empty: unknown.
        input: index of its input, after `input.from`.
        output: index of its output, after `output.as`; None: it has none.
        context_before: index of `$context` when it began.
        context_after: index of `$context` when it ended; None: it did not end.
        then: flow directive after it.
        tries: how often its operation was tried.
        reads_secrets: whether an expression of the task mentions secrets, whose values are placeholders here.
    """

    number: int
    task: str
    name: str
    kind: str
    outcome: TaskOutcome
    input: int
    output: int | None
    context_before: int
    context_after: int | None
    then: str
    tries: int
    error: TracedError | None
    requests: tuple[TracedRequest, ...]
    reads_secrets: bool


@dataclass(frozen=True, slots=True)
class TracedCallback:
    """A callback of the flow, and how many of its one-time URLs were used."""

    name: str
    used: int


@dataclass(frozen=True, slots=True)
class ExecutionTrace:
    """The trace of an execution.

    Attributes:
        values: values that the other parts refer to by index.
        output: index of the output of the execution; None: it has none.
        error: the error that ends the trace.
        compacted: whether the journal was compacted: earlier tasks are not traced.
        diverged: how the trace differs from what is recorded; empty: it does not.
        reads_secrets: whether a task of the trace mentions secrets.
        body_missing: whether a part of the body was not available.
    """

    outcome: TraceOutcome
    tasks: tuple[TracedTask, ...]
    values: tuple[TracedValue, ...]
    output: int | None
    error: TracedError | None
    compacted: bool
    diverged: str
    reads_secrets: bool
    body_missing: bool
    callbacks: tuple[TracedCallback, ...]
