"""Command-line options: generated from settings models, and shared by client commands."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from typer import Argument, Option

from cli.setting_names import INVALID, explain_validation_error, option_name, variable_name
from flowhook.process.confidential_settings import has_credentials

S = TypeVar("S", bound=BaseSettings)
Json = Annotated[bool, Option("--json", help="Print one JSON object per line, for programs.")]
Router = Annotated[
    str | None,
    Option(metavar="HOST:PORT", help="Address of the router, or of several separated by commas (FLOWHOOK_ROUTER)."),
]
DataDir = Annotated[
    Path | None,
    Option(metavar="DIR", help="Directory of the tokens, if FLOWHOOK_TOKEN is not set (FLOWHOOK_DATA_DIR)."),
]
Yes = Annotated[bool, Option("--yes", "-y", help="Don't ask. Without a terminal nothing is asked either.")]


def confirm(question: str | Callable[[], str], *, yes: bool) -> None:
    """Ask a question, or what returns it, on stderr, unless `yes`, or stdin is no terminal: scripts go on as they did.

    Raises:
        typer.Abort: the answer is not yes.
    """
    if yes or not sys.stdin.isatty():
        return
    text = question if isinstance(question, str) else question()
    print(f"{text} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort


def read_file(path: Path, shown: str = "") -> bytes:
    """Return the content of a file that an option names; `shown` stands for its path in errors."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{shown or path}: {error.strerror}") from None


def read_content(option: str, text: str) -> bytes:
    """Return the content of an option: text, `@FILE`, or `@-` for stdin."""
    if text == "@-":
        return sys.stdin.buffer.read()
    return read_file(Path(text[1:]), f"{option} {text}") if text.startswith("@") else text.encode()


def split_pair(option: str, text: str, separator: str) -> tuple[str, str]:
    """Return name and value of an option such as `NAME=VALUE`; of `NAME:VALUE`, a header, without white space."""
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise typer.BadParameter(f"{option} takes NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def settings_command(
    model: type[S],
    action: Callable[[S], int | None],
    *,
    help_text: str,
    process: str = "",
    argument: tuple[str, str, str] = ("", "", ""),
) -> Callable[..., None]:
    """Return a typer command that has an option for each setting of `model` and passes the settings to `action`.

    Secret settings have no option: an argument is visible to everyone on the machine. Without an option, a setting
    comes from the environment, or else is its default. `action` returns the exit code. `process`: role of a process
    that writes a log, which then has what is wrong with the settings, too, unless it is written for people. `argument`:
    a setting that is an argument of the command, with what stands for it in its usage, and what `--help` says of it.
    """

    def command(**given: Any) -> None:
        try:
            for name, value in given.items():
                if isinstance(value, str):
                    refuse_credentials(option_name(name), value, variable_name(name))
            settings = read_settings(model, given)
        except typer.BadParameter as error:
            from flowhook.process import logs

            if not process or logs.is_for_people(given.get("log_format") or ""):
                raise
            name = given.get("process_name") or os.environ.get(variable_name("process_name")) or process
            logs.report_end(error.message, reason=INVALID, process=name)
            raise typer.Exit(error.exit_code) from None
        if code := action(settings):
            raise typer.Exit(code)

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, Argument(metavar=argument[1], help=argument[2])]
            if name == argument[0]
            else _annotation(name, field),
        )
        for name, field in model.model_fields.items()
        if not _is(SecretStr, field)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__doc__ = help_text
    return command


def refuse_credentials(option: str, value: str, variable: str) -> None:
    """Refuse an argument that is a URL with a password or a token."""
    if has_credentials(value):
        raise typer.BadParameter(
            f"{option}: everybody on this machine can see the password in an argument: set {variable} instead, or"
            f" {variable}_FILE to the path of a file that contains the URL"
        )


def read_settings(model: type[S], given: Mapping[str, Any]) -> S:
    """Return settings from options, the environment and defaults; options that are None were not given."""
    try:
        return model(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(explain_validation_error(error, given)) from None


def _annotation(name: str, field: FieldInfo) -> Any:
    shown = "" if field.default in (None, "") else f"default {field.default}, "
    about = " ".join((field.description or name.replace("_", " ").capitalize()).replace("`", "").split())
    help_text = f"{about.rstrip('.')} ({shown}{variable_name(name)})."
    option = option_name(name)
    if _is(bool, field):
        return Annotated[bool | None, Option(f"{option}/--no-{option[2:]}", help=help_text)]
    # the model validates the value; typer knows only some of its rules
    metavars = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
    metavar = next((metavar for kind, metavar in metavars.items() if _is(kind, field)), "TEXT")
    return Annotated[str | None, Option(option, help=help_text, metavar=metavar)]


def _is(kind: type, field: FieldInfo) -> bool:
    return field.annotation is kind or kind in get_args(field.annotation)
