"""Arguments of runtime expressions (dsl.md, "Runtime expression arguments")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from flowhook import __version__
from flowhook.document.definition import flow_id
from flowhook.events.workflow_input import rfc3339
from flowhook.model import WorkflowError
from runner.interpreter.errors import ExpressionFailed, TaskFault
from runner.interpreter.redaction import Redactor


def secrets_data(values: Mapping[str, bytes]) -> dict[str, Any]:
    """Return `$secrets`: a secret that is a JSON object is parsed, so that its fields have names; others are text."""
    return {name: secret_data(value) for name, value in values.items()}


def secret_data(value: bytes) -> Any:
    """Return the value of one secret in `$secrets`."""
    if value[:1] == b"{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
    return value.decode(errors="replace")


VARIABLES: Final = frozenset({"context", "input", "output", "secrets", "authorization", "task", "workflow", "runtime"})
"""Names that the DSL defines; which of them are set depends on the place of the expression."""

Clock = Callable[[], int]
"""Returns Unix milliseconds."""


def _never() -> bool:
    return False


def date_time(milliseconds: int) -> dict[str, Any]:
    """Return an instant in the DSL's format (dsl.md, "DateTime Descriptor")."""
    return {
        "iso8601": rfc3339(milliseconds),
        "epoch": {"seconds": milliseconds // 1000, "milliseconds": milliseconds},
    }


@dataclass(slots=True)
class OneTimeUrls:
    """URLs of a flow's callbacks that are valid for this execution, once each."""

    names: Sequence[str]
    # creates the URL of a callback; its second argument distinguishes the URLs of one callback
    url: Callable[[str, int], str]
    used: dict[str, int] = field(default_factory=dict)  # number of such URLs used so far, by callback name

    def current(self) -> dict[str, str]:
        """Return the unused URL of each callback, by name."""
        return {name: self.url(name, self.used.get(name, 0)) for name in self.names}

    def use(self, name: str) -> None:
        """Record that the current URL of a callback was used."""
        self.used[name] = self.used.get(name, 0) + 1


class RemoteEvaluator(Protocol):
    """Evaluates expressions and schemas in a separate process, which can be killed. Blocking."""

    def first(self, program: str, text: str, instance: str) -> str | None:
        """Return the first result of a jq program for a JSON input, None when it has none.

        `instance` is the JSON Pointer of the task.

        Raises:
            ValueError: jq rejected the program, or the program raised an error.
        """
        ...

    def violation(self, schema: Any, data: Any, instance: str) -> str | None:
        """Return where and how data violates a JSON Schema; None: it is valid."""
        ...


@dataclass(slots=True)
class ExecutionContext:
    """Constants of one execution."""

    id: str
    definition: Mapping[str, Any]
    raw_input: Any
    started_at_ms: int
    clock: Clock
    secrets: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    # whether the execution has used up its time slice and must yield; called between expressions
    must_yield: Callable[[], bool] = _never
    effect_scope: str = ""  # first part of idempotency keys: the execution's own ID, except in replays
    # number of `run` tasks, and of events that started flows, between it and an event that no flow emitted
    depth: int = 0
    one_time: OneTimeUrls | None = None  # one-time URLs of the flow's callbacks
    remote_evaluator: RemoteEvaluator | None = None  # evaluates expressions in another process; None: this process does
    _redactor: Redactor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.effect_scope = self.effect_scope or self.id

    @property
    def redactor(self) -> Redactor | None:
        """Redactor for the values of secrets; None: there are no secrets."""
        if self._redactor is None and self.secrets:
            self._redactor = Redactor(self.secrets)
        return self._redactor

    def redacted(self, fault: TaskFault) -> WorkflowError:
        """Return the error of a fault without secrets; cached in the fault, as every enclosing task asks for it."""
        if fault.redacted is None:
            redactor = self.redactor
            fault.redacted = fault.error if redactor is None else redactor.redact_error(fault.error)
        return fault.redacted

    @property
    def flow_id(self) -> str:
        """ID of the flow."""
        document = self.definition["document"]
        return flow_id(document["namespace"], document["name"])

    def descriptor(self) -> dict[str, Any]:
        """Return `$workflow`."""
        return {
            "id": self.id,
            "definition": self.definition,
            "input": self.raw_input,
            "startedAt": date_time(self.started_at_ms),
        }

    def runtime(self) -> dict[str, Any]:
        """Return `$runtime`."""
        metadata = self.metadata if self.one_time is None else {**self.metadata, "callbacks": self.one_time.current()}
        return {"name": "flowhook", "version": __version__, "metadata": metadata}


class TaskEventEmitter(Protocol):
    """Emits the lifecycle events of one run of a task, except for the one at its end."""

    def created(self) -> None:
        """Emit `task.created`."""
        ...

    def started(self) -> None:
        """Emit `task.started`."""
        ...

    def retried(self, times: int) -> None:
        """Emit `task.retried` with the retry count."""
        ...

    def correlation_started(self) -> None:
        """Emit `workflow.correlation-started`: the task starts to wait for events."""
        ...

    def correlation_completed(self, keys: Mapping[str, Any]) -> None:
        """Emit `workflow.correlation-completed` with the values on which the events agree."""
        ...


class ExpressionScope:
    """Arguments for the expressions of one task, or of the workflow itself (then `name` is empty).

    They are set as the task proceeds; until then they are absent. Lazy, because most expressions read few of them.
    """

    __slots__ = (
        "authorization",
        "context",
        "definition",
        "events",
        "input",
        "instance",
        "locals",
        "name",
        "output",
        "raw",
        "raw_output",
        "skipped",
        "started_at_ms",
        "tries",
        "workflow",
    )

    def __init__(
        self,
        workflow: ExecutionContext,
        *,
        context: Any = None,
        instance: str = "",
        name: str = "",
        definition: Any = None,
        raw: Any = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.workflow = workflow
        self.context = context
        self.instance = instance
        self.name = name
        self.definition = definition
        self.raw = raw
        self.locals = variables
        self.started_at_ms = 0  # known only if an expression reads it; see `clock_detection`
        self.skipped = False
        self.tries = 1
        self.input: Any = None
        self.raw_output: Any = None
        self.output: Any = None
        self.authorization: Any = None
        self.events: TaskEventEmitter | None = None  # None: nobody subscribes to events of tasks

    @property
    def now_ms(self) -> int:
        """Current time for expressions, in Unix ms: the start of the task if known, else that of the workflow."""
        return self.started_at_ms or self.workflow.started_at_ms

    @contextmanager
    def with_variables(self, variables: Mapping[str, Any]) -> Iterator[None]:
        """Define more variables within a `with` block."""
        before = self.locals
        self.locals = {**(before or {}), **variables}
        try:
            yield
        finally:
            self.locals = before

    def variables(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the named arguments by name.

        Raises:
            ExpressionFailed: there is no such argument.
        """
        return {name: self.lookup(name) for name in names}

    def defines(self, name: str) -> bool:
        """Whether there is an argument of this name; variables of a jq program itself don't count."""
        return name in VARIABLES or (self.locals is not None and name in self.locals)

    def lookup(self, name: str) -> Any:
        """Return one argument; see `variables`."""
        if self.locals and name in self.locals:
            return self.locals[name]
        match name:
            case "context" | "input" | "output" | "authorization":
                return getattr(self, name)
            case "secrets":
                return self.workflow.secrets
            case "task":
                return self.task()
            case "workflow":
                return self.workflow.descriptor()
            case "runtime":
                return self.workflow.runtime()
        raise ExpressionFailed(f"${name} is not defined in this expression")

    def task(self) -> dict[str, Any]:
        """Return `$task`."""
        return {
            "name": self.name,
            "reference": self.instance,
            "definition": self.definition,
            "input": self.raw,
            "output": self.raw_output,
            "startedAt": date_time(self.now_ms),
        }
