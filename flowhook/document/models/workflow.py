"""Model of a workflow as the DSL defines it, and of `execution`, which Flowhook adds: how a flow is run.

Source: dsl-reference.md, "Workflow", "Document", "Use", "Extension", "Evaluate".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StrictInt, Tag

from flowhook import limits
from flowhook.document.definition import NAME_PATTERN, SEMANTIC_VERSION_PATTERN, flow_id
from flowhook.document.diagnostics.problems import Code, LocatedCause, refused_as, validation_error
from flowhook.document.models import base
from flowhook.document.models.authentication import AuthenticationPolicy
from flowhook.document.models.base import Model, NamedModel, accept, model_check
from flowhook.document.models.calls import AnyEndpoint
from flowhook.document.models.credentials import Duration, SecretName
from flowhook.document.models.events import Schedule
from flowhook.document.models.outage import Outage, OutagePolicy
from flowhook.document.models.shaping import Batch, Concurrency, Debounce, KeyPath, Priority, Rate
from flowhook.document.models.tasks import ErrorDefinition, Input, Output, Task, TaskItem
from flowhook.document.models.timing import RetryOrName, RetryPolicy, Timeout, TimeoutOrName
from flowhook.document.quantities import parse_size
from flowhook.events.keys import ATTRIBUTE_NAME_PATTERN, MAX_ATTRIBUTES, MAX_NAME
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import strip_markers
from flowhook.model.error_types import Spelling

MIN_RETAINED_BYTES: Final = limits.MIB


def _attribute(value: str) -> str:
    with refused_as(Code.EXPRESSION_INVALID):
        compile_accessor(strip_markers(value), variables=())
    return value


class Order(Model):
    """The order of executions whose events have the same key."""

    key: KeyPath
    """Expression in `${ }`: events of one key run one after another. A path (see `expressions.paths`)."""
    on_fault: Literal["continue", "hold"] = "continue"
    """`hold`: an execution that faults keeps its turn until it is resolved, or a replay of it completes."""


def _retained_size(value: object) -> int:
    with refused_as(Code.SIZE_INVALID):
        size = parse_size(value)
    if size < MIN_RETAINED_BYTES:
        raise validation_error(Code.VALUE_RANGE, "expected at least 1MiB")
    return size


class Retention(Model):
    """What is stored of a flow's executions that have ended; at least one of both."""

    age: Annotated[Duration, Field(ge=60)] | None = None
    """Seconds after its end for which an execution is stored, at least a minute; None: as the router is set."""
    size: Annotated[int, BeforeValidator(_retained_size), base.SIZE] | None = None
    """Bytes, at least 1 MiB; beyond them, the executions that were accepted first are removed. None: any."""

    @model_check
    def _says_something(self) -> Iterator[LocatedCause]:
        if self.age is None and self.size is None:
            yield (), Code.KEY_MISSING, "needs an `age`, a `size`, or both"


class ExecutionPolicy(Model):
    """Limits, order and retries of a flow's executions."""

    concurrency: Concurrency | None = None
    """Concurrent executions, of the flow or of one key; None: as many as runners can take."""
    rate: Rate | None = None
    """How often executions are given to runners; None: as often as there is room."""
    debounce: Debounce | None = None
    """Which events are run that follow each other closely; None: all."""
    batch: Batch | None = None
    """How many events one execution runs for; None: one."""
    priority: Priority = 0
    """Of its executions among each other, an expression in `${ }`; or of the flow among others, a number."""
    order_by: (
        Annotated[
            Annotated[Order, Tag("<definition>")] | Annotated[KeyPath, Tag("<reference>")],
            Discriminator(lambda value: "<reference>" if isinstance(value, str) else "<definition>"),
        ]
        | None
    ) = None
    """The order; an expression is its `key`."""
    search: dict[
        Annotated[str, Field(max_length=MAX_NAME, pattern=ATTRIBUTE_NAME_PATTERN)],
        Annotated[str, AfterValidator(_attribute)],
    ] = Field(default_factory=dict, max_length=MAX_ATTRIBUTES)
    """Search attributes by name: paths (see `expressions.paths`), with or without `${ }`."""
    error_types: Spelling = "open-workflow"
    """How types of the standard's errors are spelled for the flow and in its lifecycle events; all are understood."""
    retry: RetryOrName | None = None
    """The DSL's retry policy, for calls that fail transiently."""
    outage: Outage = OutagePolicy()
    """When executions park before a destination that is down; `none`: never."""
    max_backlog: Annotated[StrictInt, Field(ge=1, le=10_000_000)] = limits.DEFAULT_FLOW_BACKLOG
    """Unfinished executions; beyond it, senders get 429."""
    retention: Retention | None = None
    """What is stored of those that have ended; None: what the router is set to."""


MAX_EXTENSIONS: Final = 32
DSL_VERSION_PATTERN: Final = r"^1\.0\.(0|[1-9]\d*)$"


class Document(Model):
    """Name, version and description of the workflow."""

    dsl: Annotated[str, Field(pattern=DSL_VERSION_PATTERN)]
    namespace: Annotated[str, Field(pattern=NAME_PATTERN)]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=SEMANTIC_VERSION_PATTERN)]
    title: str | None = None
    summary: str | None = None
    tags: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def flow_id(self) -> str:
        """`name` in the namespace `default`, else `namespace.name`; at most 127 characters."""
        return flow_id(self.namespace, self.name)


_JQ: Final = accept(lambda value: value == "jq", Code.UNSUPPORTED, "only jq is supported")
_STRICT: Final = accept(
    lambda value: value == "strict",
    Code.UNSUPPORTED,
    "only `strict` is supported, in which expressions are written ${ … }",
)


class Evaluate(Model):
    """Language and mode of expressions; only the default is supported."""

    language: Annotated[Literal["jq"], BeforeValidator(_JQ)] = "jq"
    mode: Annotated[Literal["strict"], BeforeValidator(_STRICT)] = "strict"


class Extension(NamedModel):
    """Tasks that run before and after tasks of a kind; tasks of extensions are not extended."""

    noun: ClassVar[str] = "extension"
    keys: ClassVar[str] = "`extend`, `before` and `after`"

    extend: Literal["all", "call", "composite", "emit", "for", "listen", "raise", "run", "set", "switch", "try", "wait"]
    """The kind of task; `composite` are `do` and `fork`."""
    when: str | None = None
    """Expression, with or without `${ }`, over the raw input of the extended task: whether it is extended."""
    before: tuple[TaskItem, ...] | None = None
    """Their output is dropped, unless one ends with `then: exit`: then it replaces the extended task's output."""
    after: tuple[TaskItem, ...] | None = None

    @model_check
    def _does_something(self) -> Iterator[LocatedCause]:
        if self.before is None and self.after is None:
            yield (), Code.KEY_MISSING, "expected at least one of before and after"


class Catalog(Model):
    """A catalog of functions, whose files `flowhook apply` fetches and adds to the flow."""

    endpoint: AnyEndpoint
    """An https URL; with `authentication`, `basic` or `bearer` as literal values."""


class Use(Model):
    """Definitions that tasks refer to by name."""

    authentications: dict[str, AuthenticationPolicy] = Field(default_factory=dict)
    catalogs: dict[Annotated[str, Field(pattern=NAME_PATTERN)], Catalog] = Field(default_factory=dict)
    errors: dict[str, ErrorDefinition] = Field(default_factory=dict)
    extensions: Annotated[tuple[Extension, ...], Field(max_length=MAX_EXTENSIONS)] = ()
    functions: dict[str, Task] = Field(default_factory=dict)
    retries: dict[str, RetryPolicy] = Field(default_factory=dict)
    secrets: tuple[SecretName, ...] = ()
    timeouts: dict[str, Timeout] = Field(default_factory=dict)


class Workflow(Model):
    """A workflow."""

    document: Document
    input: Input | None = None
    use: Use = Field(default_factory=Use)
    do: tuple[TaskItem, ...]
    output: Output | None = None
    timeout: TimeoutOrName | None = None
    schedule: Schedule | None = None
    evaluate: Evaluate | None = None
