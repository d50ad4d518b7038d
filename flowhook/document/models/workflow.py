"""Model of a workflow as the DSL defines it.

Source: dsl-reference.md, "Workflow", "Document", "Use", "Extension", "Evaluate".
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from flowhook.document.definition import NAME_PATTERN, SEMANTIC_VERSION_PATTERN
from flowhook.document.diagnostics.problems import Code
from flowhook.document.models.authentication import AuthenticationPolicy
from flowhook.document.models.base import Model, NamedModel, RetryPolicy, Timeout, TimeoutOrName, accept, at_least_one
from flowhook.document.models.calls import AnyEndpoint
from flowhook.document.models.credentials import SecretName
from flowhook.document.models.events import Schedule
from flowhook.document.models.tasks import ErrorDefinition, Input, Output, Task, TaskItem

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

    _does_something = at_least_one("before", "after", cause="expected at least one of before and after")


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
