"""`flowhook exec`: runs one flow document locally, without a cluster or storage."""

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
            help="The input; with a webhook, the body of the event. @- is stdin.",
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
    content_type: Annotated[
        str | None,
        typer.Option("--content-type", metavar="TYPE", help="Media type of the input; default: application/json."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="K:V", help="A header of the request; may be given several times."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="K=V", help="A query parameter of the request; may be given several times."),
    ] = None,
    callback: Annotated[
        list[str] | None,
        typer.Option(
            "--callback",
            metavar="NAME=@FILE",
            help="A callback that it receives, with this JSON as its body; may be given several times.",
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", metavar="@FILE", help="A CloudEvent that it receives, as JSON; may be given several times."
        ),
    ] = None,
    skip_waits: Annotated[
        bool,
        typer.Option("--skip-waits", help="Skip waits, delays of retries and timeouts of waiting tasks."),
    ] = False,
    allow_private_addresses: Annotated[
        bool,
        typer.Option("--allow-private-addresses", help="Allow calls to private and link-local addresses, too."),
    ] = False,
    allow_processes: Annotated[bool, typer.Option("--allow-processes", help="Allow scripts and commands.")] = False,
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

    from cli import exec_input, exec_trace, flow_files, flow_problems
    from cli.output import print_json, to_json
    from flowhook.document import located_warnings
    from flowhook.errors import NotFoundError
    from flowhook.model import WorkflowError
    from flowhook.process.settings import RunnerSettings
    from runner.local_run import RunCompleted, run_document

    request = exec_input.parse_request_options(input_, content_type, header or (), query or ())
    given = dict(map(_secret, secret or ()))
    if file.is_dir():
        raise typer.BadParameter(f"{file} is a directory; exec runs one file")
    (flow,) = flow_files.read_flow_files([file])
    document = flow.document
    allowed = {"allow_private_addresses": allow_private_addresses, "allow_processes": allow_processes}
    # anyone who runs a flow here wrote it or read it, and may reach what listens on this machine anyway
    settings = read_settings(
        RunnerSettings, {"allow_loopback_addresses": True, **{name: value or None for name, value in allowed.items()}}
    )
    for warning in located_warnings(document, flow.content, file=flow.name, policy=settings.address_policy):
        print(flow_problems.format_warning(warning), file=sys.stderr)
    start = exec_input.build_start_event(document, request)
    events = [
        *(exec_input.parse_callback(document, text) for text in callback or ()),
        *map(exec_input.parse_emitted_event, event or ()),
    ]
    if until:
        _check_task(document.definition, until)
    result = asyncio.run(
        run_document(
            document,
            start,
            settings,
            _secrets(document.workflow.use.secrets, given),
            trace=partial(exec_trace.print_task, json=json) if trace else None,
            until=until,
            on_reply=_print_reply,
            events=events,
            skip_waits=skip_waits,
            on_wait=exec_trace.WaitPrinter(json=json),
        )
    )
    if isinstance(result, WorkflowError):
        sys.stderr.buffer.write(orjson.dumps(result.as_dict()) + b"\n")
        raise typer.Exit(1)
    if until and isinstance(result, RunCompleted):
        raise NotFoundError(f"the flow ended without coming to {until}", reason="TASK_NOT_REACHED")
    output = orjson.loads(result.output)
    if json:
        print_json(output)
    else:
        print(to_json(output, indent=True).decode())


def _print_reply(reply: Reply) -> None:
    """Print the response that a waiting sender would get, on stderr: stdout is reserved for the output."""
    import orjson

    shown = {
        "status": reply.status,
        "headers": [[name, value.decode("latin-1")] for name, value in reply.headers],
        "body": reply.body.decode("utf-8", "replace"),
    }
    sys.stderr.buffer.write(orjson.dumps({"reply": shown}) + b"\n")
    sys.stderr.buffer.flush()


def _check_task(definition: Mapping[str, Any], until: str) -> None:
    from flowhook.document.definition import walk

    tasks = list(walk(definition))
    if not any(until in (task.name, task.pointer) for task in tasks):
        names = dict.fromkeys(task.name for task in tasks)
        raise typer.BadParameter(f"--until: there is no task {until}; there are {', '.join(names)}")


def _secrets(names: Iterable[str], given: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return secrets by name; one that is not set is absent, and the task that needs it reports that."""
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
