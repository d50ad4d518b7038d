"""Models of `run`: other workflows, scripts and shell commands.

Source: dsl-reference.md, "Run", "Script Process", "Shell Process", "Workflow Process".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from flowhook.document.calls import ExternalResource
from flowhook.document.codes import Code
from flowhook.document.http_call import Scalars
from flowhook.document.model import Model
from flowhook.document.names import NAME_PATTERN, VERSION_OR_LATEST_PATTERN
from flowhook.document.validation import validation_error, validation_error_at
from flowhook.expressions import is_expression

MAX_ARGUMENTS: Final = 256
"""Maximum number of arguments, and of environment variables."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def _environment(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not _VARIABLE.fullmatch(name):
            cause = f"{name!r} is not a valid name of a variable: use letters, digits and underscores"
            raise validation_error(Code.NAME_INVALID, cause)
    return value


def _code(value: str) -> str:
    if is_expression(value):
        cause = "code can't be an expression: pass values as `arguments`, `environment` or `stdin`"
        raise validation_error(Code.EXPRESSION_NOT_ALLOWED, cause)
    return value


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

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.code is None) == (self.source is None):
            raise validation_error(Code.KEY_CONFLICT, "expected exactly one of code and source")
        return self


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

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if len(self.model_fields_set & {"workflow", "script", "shell"}) != 1:
            raise validation_error(Code.KEY_CONFLICT, "expected exactly one of workflow, script and shell")
        if "return_" in self.model_fields_set:
            if not self.await_:
                cause = "requires `await: true`: nothing is returned otherwise"
                raise validation_error_at((("return",), Code.KEY_CONFLICT, cause))
            if self.workflow is not None and self.return_ != "none":
                cause = "a workflow returns its output or, with `none`, nothing: other values are for processes"
                raise validation_error_at((("return",), Code.VALUE_CHOICE, cause))
        return self
