"""What an execution asks for and how it ends: the vocabulary between the interpreter and whoever drives it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flowhook.lifecycle import LifecycleEvent
from flowhook.model import JournalEntry, Reply, Subscription, WorkflowError


@dataclass(frozen=True, slots=True)
class Perform:
    """Call a function, then `Run.resume` with its key and its `Result`.

    Attributes:
        key: identity of the effect within the execution, for its journal entry and its Idempotency-Key.
        function: name of the component.
        arguments: evaluated `with`, plain JSON types.
        instance: JSON Pointer of the task.
        timeout: seconds the task may take; None: the component's own default.
        catchable: whether something in the flow may catch the failure of this effect: such failures are journaled,
            so that a replay takes the same way.
        retried: whether a transient failure of this effect is followed by another try: it is journaled, too.
        discreet: whether the flow has secrets: of a URL, no more than the origin may show then, for messengers and
            others take the path for a credential.
        secrets: those of the flow, as `$secrets` has them: no error of the effect may show a value of theirs.
    """

    key: str
    function: str
    arguments: dict[str, Any] = field(repr=False)
    instance: str
    timeout: float | None = None
    catchable: bool = False
    retried: bool = False
    discreet: bool = False
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """The workflow ended well. `output` is JSON, at most `limits.MAX_RESULT_BYTES`."""

    output: bytes


@dataclass(frozen=True, slots=True)
class Faulted:
    """The workflow ended by an error that nothing in it caught."""

    error: WorkflowError


@dataclass(frozen=True, slots=True)
class Result:
    """How an effect ended: `output` as JSON (at most `limits.MAX_RESULT_BYTES`), or an error.

    Attributes:
        retry_after_ms: how long whoever failed asks to be left alone; not journaled.
        reply: what the sender is answered with, once the journal entry of this is durable; not journaled itself.
    """

    output: bytes | None
    error: WorkflowError | None = None
    retry_after_ms: int = 0
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Came:
    """Something that is waited for.

    Attributes:
        entry: to be journaled; its key is that of a subscription.
        number: of the `Write` that it becomes.
    """

    entry: JournalEntry
    number: int


@dataclass(frozen=True, slots=True)
class Write:
    """One more entry for the journal.

    Attributes:
        entry: to be appended.
        compacts: the entries before this one are needed no more.
        binding: it has to be durable before the next effect starts.
        reply: what the sender is answered with once the entry is durable.
        arrival: number of what `Came` and is this; 0: none.
        told: what happened between the entry before and this one, for others: it is stored with the entry.
        history: what tasks came to between the entry before and this one; see `history`.
    """

    entry: JournalEntry
    compacts: bool = False
    binding: bool = True
    reply: Reply | None = None
    arrival: int = 0
    told: Sequence[LifecycleEvent] = ()
    history: bytes = b""


@dataclass(slots=True)
class Turn:
    """What came of one call of `Run.start`, `Run.resume`, `Run.take_in` or `Run.go_on`.

    Attributes:
        ending: the execution ended; then nothing else counts.
        writes: for the journal, in order.
        perform: effects that are wanted from now on.
        cancel: keys of effects that are wanted no more, whatever comes of them.
        paused: there is more to do: let others run, then `Run.go_on`.
        wake_at_ms: earliest moment that something waits for: `Run.go_on` then.
        wakes: key of what waits for it: a wait, a retry, a limit of time.
        subscriptions: what else is waited for now. It comes by `Run.take_in`, or in the journal of another attempt.
        told: what happened since the last entry, for others; with an ending it is stored in one with that.
    """

    ending: Completed | Faulted | None = None
    writes: Sequence[Write] = ()
    perform: Sequence[Perform] = ()
    cancel: Sequence[str] = ()
    paused: bool = False
    wake_at_ms: int | None = None
    wakes: str = ""
    subscriptions: Sequence[Subscription] = ()
    told: Sequence[LifecycleEvent] = ()


EMIT: Final = "emit"
RUN_WORKFLOW: Final = "run.workflow"
INTERNAL: Final = frozenset({EMIT, RUN_WORKFLOW})
"""Functions behind tasks of other kinds, which whoever drives the interpreter provides; no `call` may name them.

`emit` is given `event` (CloudEvents in JSON), `execution` (ID of this one), its `depth` and `sink` (a URL, or None).
`run.workflow` is given `flow` (ID), `version`, `input`, `parent` (ID of this execution), `depth` (of this one) and
`key` (its idempotency key); it returns `{execution}`, the ID of the one that was started.
"""

MAX_KEY_LENGTH: Final = 255


def idempotency_key(scope: str, effect_key: str) -> str:
    """Return what tells the receiver that an effect is the same one as before.

    Readable where it fits a header field (`evt_…:/do/1/announce#0`), else a hash of the effect's key.
    """
    key = f"{scope}:{effect_key}"
    if len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable():
        return key
    return f"{scope}:{hashlib.sha256(effect_key.encode()).hexdigest()}"
