"""`run.script` and `run.shell`: the DSL's `run` tasks that start a process. No `call` may name them.

They are rejected unless the operator allows them: a process may do whatever the runner's user may, and reach any
address. `runner.processes` implements the limits that there are.

A process that fails is a runtime error, unless the flow asks for its exit code.

Source: dsl-reference.md, "Run", "Script Process", "Shell Process", "Process Result", "External Resource".
"""

from __future__ import annotations

import shutil
import sys
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flowhook import limits
from flowhook.document.models.tasks import MAX_ARGUMENTS
from runner.components.base import Context, as_text, component, time_left
from runner.components.resource import Resource, fetch
from runner.interpreter.errors import Kind, fault
from runner.processes.flow_processes import PATH, FlowProcesses, ProcessSpec

# limit for one argument, variable or command: the operating system accepts little more
MAX_ARGUMENT_BYTES: Final = 64 * limits.KIB

SHELL: Final = "/bin/sh"


def _text(value: Any) -> str:
    text = as_text(value)
    if "\0" in text or len(text.encode()) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"must not contain NUL, nor more than {MAX_ARGUMENT_BYTES} bytes")
    return text


Text = Annotated[str | int | float | bool | None, AfterValidator(_text)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ProcessArguments(_Model):
    """Arguments that `run.script` and `run.shell` share."""

    stdin: Any = None
    arguments: list[Text] = Field(default_factory=list, max_length=MAX_ARGUMENTS)
    environment: dict[Variable, Text] = Field(default_factory=dict, max_length=MAX_ARGUMENTS)
    return_: Literal["stdout", "stderr", "code", "all", "none"] = Field("stdout", alias="return")
    await_: bool = Field(True, alias="await")


class ScriptArguments(ProcessArguments):
    """Arguments of `run.script`."""

    language: str
    code: str | None = Field(None, max_length=limits.MAX_RESULT_BYTES)
    source: Resource | None = None

    @model_validator(mode="after")
    def _has_code(self) -> Self:
        if (self.code is None) == (self.source is None):
            raise ValueError("set either `code` or `source`")
        return self


class ShellArguments(ProcessArguments):
    """Arguments of `run.shell`."""

    command: Annotated[str, AfterValidator(_text)]


@component("run.script")
async def script(arguments: ScriptArguments, context: Context) -> Any:
    """Run a script in Python or JavaScript; returns what `return` asks for, nothing when it is not awaited."""
    check_allowed("run.script", context)
    command: tuple[str, ...]
    match arguments.language:
        case "python":
            # isolated mode: neither the environment nor its directory can make it import other code
            command, file = (sys.executable, "-I"), "script.py"
        case "js" | "javascript":
            node = shutil.which("node", path=PATH)
            if node is None:
                detail = f"run.script: node is not installed on this runner; it is looked for in {PATH}"
                raise fault(Kind.CONFIGURATION, detail)
            command, file = (node,), "script.js"
        case _:
            raise fault(Kind.CONFIGURATION, "run.script: unknown language; use python, js or javascript")
    code = arguments.code if arguments.source is None else await _fetch(arguments.source, context)
    return await _run("run.script", (*command, file), {file: code or ""}, arguments, context)


@component("run.shell")
async def shell(arguments: ShellArguments, context: Context) -> Any:
    """Run a shell command; returns what `return` asks for, nothing when it is not awaited."""
    check_allowed("run.shell", context)
    return await _run("run.shell", (SHELL, "-c", arguments.command, "sh"), {}, arguments, context)


def check_allowed(name: str, context: Context) -> None:
    """Raise a TaskFault (configuration) unless the operator allows processes."""
    if not context.settings.allow_processes:
        raise fault(
            Kind.CONFIGURATION,
            f"{name}: this runner may not start processes; allow it: --allow-processes, FLOWHOOK_ALLOW_PROCESSES=true",
        )


async def _fetch(source: Resource, context: Context) -> str:
    try:
        return (await fetch(source, context, "run.script: source.endpoint")).decode()
    except UnicodeDecodeError:
        raise fault(Kind.COMMUNICATION, "run.script: the source is not UTF-8") from None


async def _run(
    name: str, command: tuple[str, ...], files: dict[str, str], arguments: ProcessArguments, context: Context
) -> Any:
    program = ProcessSpec(
        argv=(*command, *map(str, arguments.arguments)),
        environment={variable: str(value) for variable, value in arguments.environment.items()},
        stdin=b"" if arguments.stdin is None else as_text(arguments.stdin).encode(),
        files=files,
        seconds=time_left(context, 1.0),
    )
    pool = context.shared.get(FlowProcesses)
    if not arguments.await_:
        pool.start(program)
        return None
    ended = await pool.run(program)
    if ended.code and arguments.return_ not in ("code", "all"):
        raise fault(Kind.RUNTIME, f"{name}: the process ended with code {ended.code}")
    result = {
        "code": ended.code,
        "stdout": ended.stdout.decode(errors="replace"),
        "stderr": ended.stderr.decode(errors="replace"),
    }
    return result if arguments.return_ == "all" else result.get(arguments.return_)
