"""The arguments that runtime expressions see (dsl.md, "Runtime expression arguments")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from flowhook import __version__
from flowhook.document.names import flow_id
from flowhook.event_input import rfc3339
from flowhook.model import WorkflowError
from runner.interpreter.errors import ExpressionFailed, TaskFault
from runner.interpreter.redaction import Redactor

if TYPE_CHECKING:
    from runner.interpreter.telling import TaskTelling

VARIABLES: Final = frozenset({"context", "input", "output", "secrets", "authorization", "task", "workflow", "runtime"})
"""Names that the DSL defines; which of them are set depends on where the expression stands."""

Clock = Callable[[], int]
"""Returns Unix milliseconds."""


def _never() -> bool:
    return False


def date_time(milliseconds: int) -> dict[str, Any]:
    """Return an instant as the DSL shows it (dsl.md, "DateTime Descriptor")."""
    return {
        "iso8601": rfc3339(milliseconds),
        "epoch": {"seconds": milliseconds // 1000, "milliseconds": milliseconds},
    }


@dataclass(slots=True)
class OneTimeUrls:
    """URLs of a flow's callbacks that are good for this execution, once each.

    Attributes:
        names: of the callbacks.
        url: makes the URL of a callback; its second argument tells the URLs of one callback apart.
        used: how many callbacks of a name came that way so far.
    """

    names: Sequence[str]
    url: Callable[[str, int], str]
    used: dict[str, int] = field(default_factory=dict)

    def current(self) -> dict[str, str]:
        """Return the URLs, by name, that nobody used yet."""
        return {name: self.url(name, self.used.get(name, 0)) for name in self.names}

    def use(self, name: str) -> None:
        """Note that a callback came by its URL."""
        self.used[name] = self.used.get(name, 0) + 1


class Elsewhere(Protocol):
    """Evaluates in another process, which may be killed for it. Blocking."""

    def first(self, program: str, text: str, instance: str) -> str | None:
        """Return the first result of a jq program for an input of JSON, None when it has none.

        Args:
            program: its source.
            text: the input.
            instance: JSON Pointer of the task.

        Raises:
            ValueError: jq refused the program, or the program raised.
        """
        ...

    def violation(self, schema: Any, data: Any, instance: str) -> str | None:
        """Return where and how data misses a JSON Schema; None: it does not."""
        ...


@dataclass(slots=True)
class Workflow:
    """What stays the same for a whole execution.

    Attributes:
        overdue: whether it has run for so long that others have to have their turn; asked between expressions.
        effect_scope: what idempotency keys are made of: its own ID, but for replays.
        depth: how many `run` tasks, and events that started flows, lie between it and an event that no flow made.
        one_time: URLs of the flow's callbacks.
        elsewhere: where expressions are evaluated; None: in this process.
    """

    id: str
    definition: Mapping[str, Any]
    raw_input: Any
    started_at_ms: int
    clock: Clock
    secrets: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    overdue: Callable[[], bool] = _never
    effect_scope: str = ""
    depth: int = 0
    one_time: OneTimeUrls | None = None
    elsewhere: Elsewhere | None = None
    _redactor: Redactor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.effect_scope = self.effect_scope or self.id

    @property
    def redactor(self) -> Redactor | None:
        """What takes the values of secrets out of what others see; None: there are no secrets."""
        if self._redactor is None and self.secrets:
            self._redactor = Redactor(self.secrets)
        return self._redactor

    def presentable(self, problem: TaskFault) -> WorkflowError:
        """Return the error of a fault as others may see it; the fault keeps it, for it goes through all around it."""
        if problem.presentable is None:
            redactor = self.redactor
            problem.presentable = problem.error if redactor is None else redactor.redact_error(problem.error)
        return problem.presentable

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


class Scope:
    """The arguments for the expressions of one task, or of the workflow itself (then `name` is empty).

    `stage` grows with the task: what is not known yet is not there. Lazy, because most expressions look at few of them.
    """

    __slots__ = (
        "authorization",
        "context",
        "definition",
        "input",
        "instance",
        "locals",
        "name",
        "output",
        "raw",
        "raw_output",
        "skipped",
        "started_at_ms",
        "telling",
        "tries",
        "workflow",
    )

    def __init__(
        self,
        workflow: Workflow,
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
        self.started_at_ms = 0  # known only where an expression asks for it; see `clock`
        self.skipped = False
        self.tries = 1
        self.input: Any = None
        self.raw_output: Any = None
        self.output: Any = None
        self.authorization: Any = None
        self.telling: TaskTelling | None = None  # who tells others of the task, if anybody wants to know

    @property
    def now_ms(self) -> int:
        """What expressions take for the present, in Unix milliseconds: when the task began, where that is known."""
        return self.started_at_ms or self.workflow.started_at_ms

    @contextmanager
    def naming(self, variables: Mapping[str, Any]) -> Iterator[None]:
        """Define more variables for a while."""
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
        """Whether there is an argument of this name; a program's own variables are none."""
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
        raise ExpressionFailed(f"${name} is not defined here")

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
