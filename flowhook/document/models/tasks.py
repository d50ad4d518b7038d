"""Models of tasks of all kinds, of their data flow, and of the processes that `run` starts.

A task is a mapping with one key that is its *kind* (`set`, `call`, …), besides the keys that all tasks share.

Source: dsl-reference.md, "Task", "Input", "Output", "Export", "Schema", "Run", "Script Process", "Shell Process",
"Workflow Process".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, StrictBool, StrictInt, Tag

from flowhook.document.definition import NAME_PATTERN, VERSION_OR_LATEST_PATTERN, kind_of
from flowhook.document.diagnostics.problems import Code, LocatedCause, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Model, accept, exactly_one
from flowhook.document.models.calls import ExternalResource, Scalars
from flowhook.document.models.events import EmitConfiguration, ListenConfiguration
from flowhook.expressions.syntax import is_expression


class Input(Model):
    """Validation of the raw input, then its transformation."""

    schema_: base.Schema | None = Field(None, alias="schema")
    from_: base.Transformation | None = Field(None, alias="from")


class Output(Model):
    """Transformation of the raw output, then validation of the result."""

    schema_: base.Schema | None = Field(None, alias="schema")
    as_: base.Transformation | None = Field(None, alias="as")


class Export(Output):
    """The new `$context`, then its validation."""


MAX_ARGUMENTS: Final = 256  # maximum number of arguments, and of environment variables

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def _environment(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not _VARIABLE.fullmatch(name):
            cause = f"{name!r} is not a valid name of a variable: use letters, digits and underscores"
            raise validation_error(Code.NAME_INVALID, cause)
    return value


_code: Final = accept(
    lambda value: not is_expression(value),
    Code.EXPRESSION_NOT_ALLOWED,
    "code can't be an expression: pass values as `arguments`, `environment` or `stdin`",
)


class Process(Model):
    """Inputs of all processes; values may be expressions in `${ }`."""

    stdin: str | None = None
    """Values other than strings are written as JSON."""
    arguments: Annotated[tuple[str, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    environment: Annotated[Scalars, AfterValidator(_environment)] = Field(default_factory=dict)


class Script(Process):
    """A script: exactly one of `code` and `source`."""

    language: Literal["python", "js", "javascript"]
    code: Annotated[str, AfterValidator(_code)] | None = None
    source: ExternalResource | None = None

    _is_one = exactly_one("code", "source", cause="expected exactly one of code and source")


class Shell(Process):
    """A command of the shell."""

    command: Annotated[str, Field(min_length=1)]


class Subflow(Model):
    """Another flow."""

    namespace: Annotated[str, Field(pattern=NAME_PATTERN)]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=VERSION_OR_LATEST_PATTERN)] = "latest"
    """The flow's `document.version`, of which the latest revision is run; `latest`: any version."""
    input: Any = None
    """JSON, in which expressions may stand. None: an empty object."""


class RunConfiguration(Model):
    """The process to run: exactly one of `workflow`, `script` and `shell`."""

    workflow: Subflow | None = None
    script: Script | None = None
    shell: Shell | None = None
    await_: StrictBool = Field(True, alias="await")
    """False: the task does not wait, and its output is its input."""
    return_: Literal["stdout", "stderr", "code", "all", "none"] = Field("stdout", alias="return")
    """Part of a process's result that becomes the output; a workflow returns its output or, with `none`, nothing."""

    _is_one = exactly_one(
        "workflow", "script", "shell", cause="expected exactly one of workflow, script and shell", may_be_null=True
    )

    @base.model_check
    def _returns_what_there_is(self) -> Iterator[LocatedCause]:
        if "return_" not in self.model_fields_set:
            return
        if not self.await_:
            yield ("return",), Code.KEY_CONFLICT, "requires `await: true`: nothing is returned otherwise"
        elif self.workflow is not None and self.return_ != "none":
            cause = "a workflow returns its output or, with `none`, nothing: other values are for processes"
            yield ("return",), Code.VALUE_CHOICE, cause


RETRIED: Final = frozenset({"call", "emit", "run"})
"""Kinds of tasks that may have their own retry policy, in their `metadata`."""

MAX_BRANCHES: Final = 1000  # branches of one `fork`


class TaskBase(Model):
    """Keys that all tasks share."""

    if_: str | None = Field(None, alias="if")
    """Expression, with or without `${ }`, over the raw input: a task for which it is not true is skipped."""
    input: Input | None = None
    output: Output | None = None
    export: Export | None = None
    timeout: base.TimeoutOrName | None = None
    then: str | None = None
    """`continue` (as is None), `exit`, `end`, or the name of a task in the same list."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class CallTask(TaskBase):
    """Calls a function: `http`, or a component by its name.

    `with` contains its arguments, which may be expressions in `${ }`; those of `http` are `HttpArguments`.
    """

    call: str
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")


class DoTask(TaskBase):
    """Runs tasks one after another."""

    do: tuple[TaskItem, ...]


class EmitTask(TaskBase):
    """Publishes an event: to the flows that wait for it, and to the URL in `metadata.sink`, if there is one."""

    emit: EmitConfiguration


class ErrorDefinition(Model):
    """The definition of an error: `type`, `instance`, `title` and `detail` may be expressions in `${ }`.

    `type` may be a URI template, too. The `instance` that is raised is always the task's.
    """

    type: str
    status: Annotated[StrictInt, Field(ge=100, le=599)]
    instance: str | None = None
    title: str | None = None
    detail: str | None = None


class RaiseConfiguration(Model):
    """The error to raise: a definition, the name of one of `use.errors`, or an expression in `${ }` that yields it.

    The result of an expression, such as a caught error, is raised unchanged, with its `instance`.
    """

    error: base.OrText[ErrorDefinition]


class RaiseTask(TaskBase):
    """Raises an error."""

    raise_: RaiseConfiguration = Field(alias="raise")


class RunTask(TaskBase):
    """Runs another flow, a script or a command of the shell."""

    run: RunConfiguration


class SetTask(TaskBase):
    """Replaces the data."""

    set: base.Data


class SwitchCase(base.NamedModel):
    """One case of a switch. Without `when` it is the default, for when no other matches."""

    noun: ClassVar[str] = "case"
    keys: ClassVar[str] = "`when` and `then`"

    when: str | None = None
    """Expression, with or without `${ }`."""
    then: str


class SwitchTask(TaskBase):
    """Selects the next task."""

    switch: Annotated[tuple[SwitchCase, ...], Field(min_length=1)]


_items: Final = accept(
    lambda value: isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, dict) for each in value)),
    Code.VALUE_TYPE,
    "expected an expression that yields an array, or an array of mappings",
)


class ForLoop(Model):
    """The array to iterate over, and the names of item and index in expressions."""

    each: str = "item"
    in_: Annotated[str | tuple[dict[str, Any], ...], PlainValidator(_items), base.ITEMS] = Field(alias="in")
    """Expression, with or without `${ }`, that yields an array; or an array of objects, which may have expressions."""
    at: str = "index"


class ForTask(TaskBase):
    """Runs tasks for each item of an array, for as long as `while` is true."""

    for_: ForLoop = Field(alias="for")
    while_: str | None = Field(None, alias="while")
    do: tuple[TaskItem, ...]


class ForkConfiguration(Model):
    """Tasks to run concurrently; with `compete` the first that succeeds gives the output, and ends the others."""

    branches: Annotated[tuple[TaskItem, ...], Field(min_length=1, max_length=MAX_BRANCHES)]
    compete: StrictBool = False


class ForkTask(TaskBase):
    """Runs tasks concurrently."""

    fork: ForkConfiguration


class SubscriptionIterator(Model):
    """Tasks for each event, in order, and the names of item and index in expressions."""

    item: str = "item"
    at: str = "index"
    do: tuple[TaskItem, ...] = ()
    output: Output | None = None
    """The part of the event that is added to the task's output."""
    export: Export | None = None


class ListenTask(TaskBase):
    """Waits for events."""

    listen: ListenConfiguration
    foreach: SubscriptionIterator | None = None


class ErrorFilter(Model):
    """Members that an error must have; for expressions, use `when`."""

    type: str | None = None
    status: StrictInt | None = None
    instance: str | None = None
    title: str | None = None
    detail: str | None = None
    details: str | None = None
    """The same as `detail`, as 1.0.3 of the standard writes it."""

    _is_any = base.at_least_one(
        cause="expected at least one of type, status, instance, title and detail", may_be_null=True
    )


class CaughtErrors(Model):
    """The errors to catch; without a filter, all."""

    with_: ErrorFilter | None = Field(None, alias="with")


class Catch(Model):
    """The errors to catch, and their handling: retries and, after the last one, `do` and `then`."""

    errors: CaughtErrors | None = None
    as_: str = Field("error", alias="as")
    when: str | None = None
    except_when: str | None = Field(None, alias="exceptWhen")
    retry: base.RetryOrName | None = None
    do: tuple[TaskItem, ...] | None = None
    then: str | None = None
    """Directive after the handling, or the name of a task in the list of the `try`. None: the `then` of the `try`."""


class TryTask(TaskBase):
    """Runs tasks, and catches their errors."""

    try_: tuple[TaskItem, ...] = Field(alias="try")
    catch: Catch


class WaitTask(TaskBase):
    """Waits for a time."""

    wait: base.Duration


def models_of_tasks() -> dict[str, type[TaskBase]]:
    members = (get_args(member) for member in get_args(get_args(Task)[0]))
    return {tag.tag[1:-1]: model for model, tag in members}


def _task_tag(value: object) -> str | None:
    kind = kind_of(value)
    return None if kind is None else f"<{kind}>"


Task = Annotated[
    Annotated[CallTask, Tag("<call>")]
    | Annotated[DoTask, Tag("<do>")]
    | Annotated[EmitTask, Tag("<emit>")]
    | Annotated[ForTask, Tag("<for>")]
    | Annotated[ForkTask, Tag("<fork>")]
    | Annotated[ListenTask, Tag("<listen>")]
    | Annotated[RaiseTask, Tag("<raise>")]
    | Annotated[RunTask, Tag("<run>")]
    | Annotated[SetTask, Tag("<set>")]
    | Annotated[SwitchTask, Tag("<switch>")]
    | Annotated[TryTask, Tag("<try>")]
    | Annotated[WaitTask, Tag("<wait>")],
    Discriminator(_task_tag),
]
"""Any task. The tags are in angle brackets so that no key of a flow file can be mistaken for one."""


class TaskItem(base.NamedModel):
    """A task and its name, unique within its list."""

    noun: ClassVar[str] = "task"
    keys: ClassVar[str] = "what it does"
    inner: ClassVar[str] = "<task>"

    task: Task = Field(alias="<task>")


for _model in (DoTask, ForTask, ForkConfiguration, ForkTask, SubscriptionIterator, ListenTask, Catch, TryTask):
    _model.model_rebuild()
