"""Model of a workflow as the DSL defines it, without the keys that Flowhook adds.

Source: dsl-reference.md, "Workflow", "Document", "Use", "Evaluate".
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from flowhook.document.auth import SecretName
from flowhook.document.authentication import AuthenticationPolicy
from flowhook.document.codes import Code
from flowhook.document.dataflow import Input, Output
from flowhook.document.extensions import Extensions
from flowhook.document.model import Model
from flowhook.document.names import NAME_PATTERN, SEMANTIC_VERSION_PATTERN, flow_id
from flowhook.document.schedule import Schedule
from flowhook.document.tasks import ErrorDefinition, Task, TaskItem
from flowhook.document.timing import RetryPolicy, Timeout, TimeoutOrName
from flowhook.document.validation import validation_error

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


def _language(value: object) -> object:
    if value != "jq":
        raise validation_error(Code.UNSUPPORTED, "only jq is supported")
    return value


def _mode(value: object) -> object:
    if value != "strict":
        cause = "only `strict` is supported, in which expressions are written ${ … }"
        raise validation_error(Code.UNSUPPORTED, cause)
    return value


class Evaluate(Model):
    """Language and mode of expressions; only the default is supported."""

    language: Annotated[Literal["jq"], BeforeValidator(_language)] = "jq"
    mode: Annotated[Literal["strict"], BeforeValidator(_mode)] = "strict"


class Use(Model):
    """Definitions that tasks refer to by name."""

    authentications: dict[str, AuthenticationPolicy] = Field(default_factory=dict)
    errors: dict[str, ErrorDefinition] = Field(default_factory=dict)
    extensions: Extensions = ()
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
