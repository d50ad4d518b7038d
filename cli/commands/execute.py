"""`flowhook exec`: runs one flow document here, with no cluster and no storage."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, read_settings

if TYPE_CHECKING:
    from flowhook.model import Reply


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("exec")(_exec)


def _exec(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The flow file.")],
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="JSON_OR_@FILE",
            help="The input; body of the event where the flow has a webhook. @- is stdin.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME=@FILE",
            help="A secret that the flow names; also NAME=VALUE, or FLOWHOOK_SECRET_NAME in the environment.",
        ),
    ] = None,
    allow_private_addresses: Annotated[
        bool, typer.Option("--allow-private-addresses", help="Let it call private, loopback and link-local addresses.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show input and output of each task on stderr; with --json, as JSON.")
    ] = False,
    until: Annotated[
        str,
        typer.Option("--until", metavar="TASK", help="Stop after this task (a name or /do/0/name); print its output."),
    ] = "",
    json: Json = False,
) -> None:
    """Run one flow here, with no cluster: its output goes to stdout, a fault or a reply as JSON to stderr."""
    import orjson

    from cli import flow_files, tracing
    from cli.output import print_json, to_json
    from flowhook.client import calls
    from flowhook.config import RunnerSettings
    from flowhook.document import warnings
    from flowhook.errors import NotFoundError
    from flowhook.model import WorkflowError
    from runner.local import Completed, run_document

    body = _body(input_)
    given = dict(map(_secret, secret or ()))
    if file.is_dir():
        raise typer.BadParameter(f"{file} is a directory; exec runs one file")
    document = flow_files.read([file])[0].document
    for warning in warnings(document):
        print(f"warning: {warning}", file=sys.stderr)
    settings = read_settings(RunnerSettings, {"allow_private_addresses": allow_private_addresses or None})
    event = calls.new_event(
        document.id, body, content_type="application/json", headers=(), dedupe_key="", event_id=None
    )
    if until:
        _check_task(document.definition, until)
    result = asyncio.run(
        run_document(
            document,
            event,
            settings,
            _secrets(document.workflow.use.secrets, given),
            trace=partial(tracing.print_entry, json=json) if trace else None,
            until=until,
            on_reply=_print_reply,
        )
    )
    if isinstance(result, WorkflowError):
        sys.stderr.buffer.write(orjson.dumps(result.as_dict()) + b"\n")
        raise typer.Exit(1)
    if until and isinstance(result, Completed):
        raise NotFoundError(f"the flow ended without coming to {until}", reason="TASK_NOT_REACHED")
    output = orjson.loads(result.output)
    if json:
        print_json(output)
    else:
        print(to_json(output, indent=True).decode())


def _print_reply(reply: Reply) -> None:
    """Show on stderr what a waiting sender would get: stdout is for the output."""
    import orjson

    shown = {
        "status": reply.status,
        "headers": [[name, value.decode("latin-1")] for name, value in reply.headers],
        "body": reply.body.decode("utf-8", "replace"),
    }
    sys.stderr.buffer.write(orjson.dumps({"reply": shown}) + b"\n")
    sys.stderr.buffer.flush()


def _check_task(definition: Mapping[str, Any], until: str) -> None:
    from flowhook.document.walk import walk

    tasks = list(walk(definition))
    if not any(until in (task.name, task.pointer) for task in tasks):
        names = dict.fromkeys(task.name for task in tasks)
        raise typer.BadParameter(f"--until: there is no task {until}; there are {', '.join(names)}")


def _secrets(names: Iterable[str], given: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return values by name; one that is set nowhere is missing, and the task that needs it says so."""
    found = dict(given)
    for name in names:
        variable = "FLOWHOOK_SECRET_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if name not in found and variable in os.environ:
            found[name] = os.environ[variable].encode()
    return found


def _secret(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter("--secret takes NAME=VALUE or NAME=@FILE")
    if not value.startswith("@"):
        return name, value.encode()
    try:
        return name, Path(value[1:]).read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise typer.BadParameter(f"--secret {name}: {value[1:]}: {error.strerror}") from None


def _body(text: str | None) -> bytes:
    import orjson

    if text is None:
        return b"{}"
    if text == "@-":
        content = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            content = Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"--input {text}: {error.strerror}") from None
    else:
        content = text.encode()
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--input is not JSON: {error}") from None
    return content
