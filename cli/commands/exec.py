"""`flowhook exec`: runs one flow document locally, without a cluster or storage.

stdout is reserved for its output: the trace, waits and a reply are printed on stderr while it runs.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from typer import Argument, Option

from cli.given_events import SentRequest, callback_event, emitted_event, secrets_of, start_event
from cli.options import Json, read_content, read_file, read_settings, split_pair

if TYPE_CHECKING:
    from flowhook.document.loader import FlowDocument
    from flowhook.model import Reply
    from runner.ipc import Message, ProvidedEvent, WaitStarted

JSON: Final = "application/json"
MAX_WAITS: Final = 50  # maximum number of waits that are printed for one run; a loop may have any number
MAX_SHOWN: Final = 2000  # maximum number of characters of a value in text output; JSON output has the whole value
RETRIES_HERE: Final = (
    "here, a call without a retry policy is tried again within seconds (quick); a cluster does so for a day (webhook)"
)
_VALUES: Final = ("input", "output", "context", "error")


def command(
    *,
    file: Annotated[Path, Argument(metavar="FILE", help="The flow file.")],
    input_: Annotated[
        str | None,
        Option(
            "--input", metavar="JSON_OR_@FILE", help="The input; with a webhook, the body of the event. @- is stdin."
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=@FILE",
            help="A secret that the flow names; also NAME=VALUE, or FLOWHOOK_SECRET_NAME in the environment.",
        ),
    ] = None,
    content_type: Annotated[
        str | None, Option(metavar="TYPE", help="Media type of the input; default: application/json.")
    ] = None,
    header: Annotated[
        list[str] | None, Option(metavar="K:V", help="A header of the request; may be given several times.")
    ] = None,
    query: Annotated[
        list[str] | None, Option(metavar="K=V", help="A query parameter of the request; may be given several times.")
    ] = None,
    callback: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=@FILE",
            help="A callback that it receives, with this JSON as its body; may be given several times.",
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        Option(metavar="@FILE", help="A CloudEvent that it receives, as JSON; may be given several times."),
    ] = None,
    skip_waits: Annotated[
        bool, Option("--skip-waits", help="Skip waits, delays of retries and timeouts of waiting tasks.")
    ] = False,
    allow_private_addresses: Annotated[
        bool, Option("--allow-private-addresses", help="Allow calls to private and link-local addresses, too.")
    ] = False,
    allow_processes: Annotated[bool, Option("--allow-processes", help="Allow scripts and commands.")] = False,
    trace: Annotated[
        bool, Option("--trace", help="Show input and output of each task on stderr; with --json, as JSON.")
    ] = False,
    until: Annotated[
        str, Option(metavar="TASK", help="Stop after this task (a name or /do/0/name); print its output.")
    ] = "",
    json: Json = False,
) -> None:
    """Run one flow here, with no cluster: its output goes to stdout, a fault or a reply as JSON to stderr."""
    from cli import flow_files
    from cli.output import print_json, to_json
    from flowhook.document.diagnostics.lint import located_warnings
    from flowhook.errors import NotFoundError
    from flowhook.process.settings import RunnerSettings
    from flowhook.wire import convert
    from runner.ipc import RunDocument
    from runner.local_run import run_document

    request = SentRequest(
        b"{}" if input_ is None and content_type is None else read_content("--input", input_ or ""),
        content_type or JSON,
        [split_pair("--header", text, ":") for text in header or ()],
        [split_pair("--query", text, "=") for text in query or ()],
    )
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
        print(flow_files.format_warning(warning), file=sys.stderr)
    start = start_event(document, request)
    events = [*(_callback(document, text) for text in callback or ()), *map(_given_event, event or ())]
    if until:
        from flowhook.document.definition import walk

        tasks = list(walk(document.definition))
        if not any(until in (task.name, task.pointer) for task in tasks):
            names = dict.fromkeys(task.name for task in tasks)
            raise typer.BadParameter(f"--until: there is no task {until}; there are {', '.join(names)}")
    order = RunDocument(
        settings,
        orjson.dumps(document.definition),
        convert.event_to_bytes(start),
        secrets_of(document.workflow.use.secrets, given),
        trace=trace,
        until=until,
        events=events,
        skip_waits=skip_waits,
    )
    tells_of_retries = "retry" not in (document.definition.get("execution") or {})
    result = asyncio.run(run_document(order, _printer(json=json, tells_of_retries=tells_of_retries)))
    if result.error is not None:
        sys.stderr.buffer.write(orjson.dumps(result.error.as_dict(document.execution.error_types)) + b"\n")
        raise typer.Exit(1)
    if until and not result.reached:
        raise NotFoundError(f"the flow ended without coming to {until}", reason="TASK_NOT_REACHED")
    output = orjson.loads(result.output or b"null")
    print_json(output) if json else print(to_json(output, indent=True).decode())


def _printer(*, json: bool, tells_of_retries: bool) -> Callable[[Message], None]:
    """Return what prints a message about the run; see `_wait_printer`."""
    from runner import ipc

    print_wait = _wait_printer(json=json, tells_of_retries=tells_of_retries)

    def show(said: Message) -> None:
        match said:
            case ipc.TaskTraced(entry=entry):
                _print_task(entry, json=json)
            case ipc.ReplySent(reply=reply):
                _print_reply(reply)
            case ipc.WaitStarted():
                print_wait(said)

    return show


def _print_reply(reply: Reply) -> None:
    """Print the response that a waiting sender would get, on stderr: stdout is reserved for the output."""
    shown = {
        "status": reply.status,
        "headers": [[name, value.decode("latin-1")] for name, value in reply.headers],
        "body": reply.body.decode("utf-8", "replace"),
    }
    sys.stderr.buffer.write(orjson.dumps({"reply": shown}) + b"\n")
    sys.stderr.buffer.flush()


def _secret(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter("--secret takes NAME=VALUE or NAME=@FILE")
    if not value.startswith("@"):
        return name, value.encode()
    return name, read_file(Path(value[1:]), f"--secret {name}: {value[1:]}").removesuffix(b"\n")


def _callback(document: FlowDocument, text: str) -> ProvidedEvent:
    """Return the event of a callback, given as `NAME=@FILE` or `NAME=JSON`."""
    name, body = split_pair("--callback", text, "=")
    option = f"--callback {name}"
    return callback_event(option, document, name, SentRequest(read_content(option, body), JSON, (), ()))


def _given_event(text: str) -> ProvidedEvent:
    """Return an emitted event: a CloudEvent in JSON, as `@FILE` or text."""
    try:
        return emitted_event("--event", orjson.loads(read_content("--event", text)))
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--event is not JSON: {error}") from None


def _print_task(entry: bytes, *, json: bool) -> None:
    """Print one completed task: as a few lines for people, or as the unchanged JSON object for programs."""
    if json:
        sys.stderr.buffer.write(entry + b"\n")
        sys.stderr.buffer.flush()
        return
    print("\n".join(_task_lines(orjson.loads(entry))), file=sys.stderr, flush=True)


def _task_lines(entry: dict[str, Any]) -> list[str]:
    iteration = "".join(f"[{index}]" for index in entry.get("iteration", ()))
    lines = [f"{entry['task']}{iteration}  {entry['kind']}  {entry['status']}"]
    lines += [f"  {name:<8}{_shorten(entry[name])}" for name in _VALUES if name in entry]
    if entry.get("then", "continue") != "continue":
        lines.append(f"  {'then':<8}{entry['then']}")
    lines += [f"  {'note':<8}{note}" for note in entry.get("notes", ())]
    return [_printable(line) for line in lines]


def _shorten(value: Any) -> str:
    from cli.output import to_json

    text = to_json(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _wait_printer(*, json: bool, tells_of_retries: bool) -> Callable[[WaitStarted], None]:
    """Return what prints each wait as a line, or as JSON for programs; at most `MAX_WAITS` of them.

    `tells_of_retries`: it is said once that a call is tried again for longer on a cluster.
    """
    numbers = itertools.count(1)

    def show(waiting: WaitStarted) -> None:
        nonlocal tells_of_retries
        number = next(numbers)
        if tells_of_retries and waiting.reason == "retry" and not json:
            tells_of_retries = False
            print(RETRIES_HERE, file=sys.stderr, flush=True)
        if number <= MAX_WAITS:
            print(_wait_as_json(waiting) if json else _wait_as_text(waiting), file=sys.stderr, flush=True)
        if number == MAX_WAITS and not json:
            print("further waits are not shown", file=sys.stderr, flush=True)

    return show


def _wait_as_json(waiting: WaitStarted) -> str:
    shown: dict[str, Any] = {"task": waiting.task, "for": waiting.reason, "seconds": round(waiting.seconds, 3)}
    if waiting.types:
        shown["types"] = list(waiting.types)
    return orjson.dumps({"skipped" if waiting.skipped else "waiting": shown}).decode()


def _wait_as_text(waiting: WaitStarted) -> str:
    does = "skipping" if waiting.skipped else "waiting"
    seconds = f"{waiting.seconds:.1f}".removesuffix(".0")
    if waiting.reason != "listen":
        return _printable(f"{does} {seconds} s: {waiting.reason} of {waiting.task}")
    types = f" for {' or '.join(waiting.types)}" if waiting.types else ""
    return _printable(f"{does} at most {seconds} s: {waiting.task} listens{types}")
