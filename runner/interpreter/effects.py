"""Effects, results and journal writes: the types exchanged between the interpreter and its driver."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flowhook.events.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Reply, Subscription, WorkflowError


@dataclass(frozen=True, slots=True)
class Perform:
    """Request to call a function and to pass its `EffectResult` to `ExecutionMachine.resume`."""

    key: str  # identity of the effect within the execution, for its journal entry and its Idempotency-Key
    function: str
    arguments: dict[str, Any] = field(repr=False)  # evaluated `with`, plain JSON types
    instance: str  # JSON Pointer of the task
    timeout: float | None = None  # seconds the task may take; None: the component's own default
    # something in the flow may catch the failure of this effect. Such failures are journaled, so that a replay
    # takes the same path.
    catchable: bool = False
    # a transient failure of this effect is followed by a retry. Such failures are journaled, too.
    retried: bool = False
    repeatable: bool = True  # the retry policy allows to call again after a transient failure, whatever is left of it
    # the flow has secrets. Then only the origin of a URL may be shown, because messengers and other services
    # use the path as a credential.
    hides_url_paths: bool = False
    # secrets of the flow, as in `$secrets`; no error of the effect may show their values
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class WorkflowCompleted:
    """The workflow completed. `output` is JSON, at most `limits.MAX_RESULT_BYTES`."""

    output: bytes


@dataclass(frozen=True, slots=True)
class WorkflowFaulted:
    """The workflow ended with an error that nothing in it caught."""

    error: WorkflowError


@dataclass(frozen=True, slots=True)
class EffectResult:
    """Result of an effect: `output` as JSON (at most `limits.MAX_RESULT_BYTES`), or an error."""

    output: bytes | None
    error: WorkflowError | None = None
    retry_after_ms: int = 0  # wait that the failed service asks for; not journaled
    # reply to send to the sender once the journal entry of the result is durable; not journaled itself
    reply: Reply | None = None
    destination: str = ""  # not empty: the call waits until this origin is up again, and there is no result


@dataclass(frozen=True, slots=True)
class DeliveredEvent:
    """An awaited input from outside: an event, or the end of another execution."""

    entry: JournalEntry  # entry to journal; its key is that of a subscription
    number: int  # number of the resulting `JournalWrite`


@dataclass(frozen=True, slots=True)
class JournalWrite:
    """An entry to append to the journal."""

    entry: JournalEntry
    compacts: bool = False  # it makes the entries before it obsolete
    binding: bool = True  # it must be durable before the next effect starts
    reply: Reply | None = None  # reply to send to the sender once the entry is durable
    consumed: int = 0  # number of the `DeliveredEvent` that the entry records; 0: none
    lifecycle_events: Sequence[LifecycleEvent] = ()  # those since the entry before; stored with this one
    history: bytes = b""  # task history since the entry before; see `history`


@dataclass(slots=True)
class Step:
    """Outcome of one call of `advance`, `resume` or `deliver` of `ExecutionMachine`."""

    # how the execution ended; if set, only `writes` and `lifecycle_events` count besides it
    ending: WorkflowCompleted | WorkflowFaulted | None = None
    writes: Sequence[JournalWrite] = ()  # entries for the journal, in order
    perform: Sequence[Perform] = ()  # effects to start now
    cancel: Sequence[str] = ()  # keys of effects to cancel; their results are not needed
    paused: bool = False  # there is more to do: let others run, then call `ExecutionMachine.advance`
    wake_at_ms: int | None = None  # earliest deadline in Unix milliseconds; call `ExecutionMachine.advance` then
    wakes: str = ""  # key of the request with that deadline: a wait, a retry, a timeout
    # everything else that is awaited now. It is delivered by `ExecutionMachine.deliver`, or in the journal of another
    # attempt.
    subscriptions: Sequence[Subscription] = ()
    # those since the last entry; stored together with `ending`, if that is set
    lifecycle_events: Sequence[LifecycleEvent] = ()


EMIT: Final = "emit"
RUN_WORKFLOW: Final = "run.workflow"
INTERNAL: Final = frozenset({EMIT, RUN_WORKFLOW})
"""Functions behind tasks other than `call`, provided by the driver of the interpreter; no `call` may name them.

`emit` takes `event` (CloudEvents in JSON), `execution` (ID of this one), its `depth` and `sink` (a URL, or None).
`run.workflow` takes `flow` (ID), `version`, `input`, `parent` (ID of this execution), `depth` (of this one) and
`key` (its idempotency key); it returns `{execution}`, the ID of the started execution.
"""

MAX_KEY_LENGTH: Final = 255


def idempotency_key(scope: str, effect_key: str) -> str:
    """Return the key by which a receiver recognizes a repeated effect: readable if it fits a header, else hashed."""
    key = f"{scope}:{effect_key}"
    if len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable():
        return key
    return f"{scope}:{hashlib.sha256(effect_key.encode()).hexdigest()}"
