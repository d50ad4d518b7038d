"""What an execution asks for and how it ends: the vocabulary between the interpreter and whoever drives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowhook.model import WorkflowError


@dataclass(frozen=True, slots=True)
class Perform:
    """Call a function, then `Run.resume` with its `Result`.

    Attributes:
        key: identity of the effect within the execution, for its journal entry and its Idempotency-Key.
        function: name of the component.
        arguments: evaluated `with`, plain JSON types.
        instance: JSON Pointer of the task.
        timeout: seconds the task may take; None: the component's own default.
        catchable: whether something in the flow may catch the failure of this effect: such failures are journaled,
            so that a replay takes the same way.
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
    discreet: bool = False
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Enough for now: let others run, then `Run.resume` with None."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The workflow ended well. `output` is JSON, at most `limits.MAX_RESULT_BYTES`."""

    output: bytes


@dataclass(frozen=True, slots=True)
class Faulted:
    """The workflow ended by an error that nothing in it caught."""

    error: WorkflowError


Step = Perform | Pause | Completed | Faulted
"""What comes next in an execution."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an effect ended: `output` as JSON (at most `limits.MAX_RESULT_BYTES`), or an error."""

    output: bytes | None
    error: WorkflowError | None = None


PAUSE = Pause()
