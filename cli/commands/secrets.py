"""`flowhook secrets`: sets, lists and deletes the secrets of flows; values are never printed."""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from cli.operation_commands import OperationCall, command, print_items, showing
from cli.options import DataDir, Router, read_file
from operations import table

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.model import Flow

# maximum number of flows that are searched for the name of a new secret; if there are more, none is searched
MAX_SEARCHED: Final = 200
app = typer.Typer(help="Set, list and delete the secrets that flows name.", no_args_is_help=True)
Name = Annotated[str, Argument(metavar="NAME", help="Name of the secret.")]


@app.command("set")
def _set(
    *,
    name: Name,
    source: Annotated[
        str | None, Argument(metavar="[-]", help="A dash reads the value from stdin.", show_default=False)
    ] = None,
    value: Annotated[str | None, Option(help="The value; it stays in the shell's history.")] = None,
    from_file: Annotated[Path | None, Option(metavar="FILE", help="Read the value from a file.")] = None,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Create or replace a secret.

    Without a source the value is asked for, hidden, on a terminal, and read from stdin elsewhere. One newline at the
    end of a file or of stdin is not part of the value.
    """
    from cli.client_factory import open_client

    content = _value(name, source, value, from_file)
    if not content:
        raise typer.BadParameter("the value is empty")
    with open_client(router, data_dir) as client:
        client.secrets.set(name, content)
        remark = _remark(client, name)
    print(f"{name}: set")
    if remark:
        print(f"warning: {remark}", file=sys.stderr)


@command(app, "list", table.LIST_SECRETS)
def _list(call: OperationCall) -> None:
    """List the names of all secrets."""
    empty = "no secrets; set one: flowhook secrets set NAME"
    columns = ("SECRET", "UPDATED")
    print_items(call.perform().secrets, columns, operator.itemgetter("name", "updated_at"), empty=empty, json=call.json)


command(
    app,
    "delete",
    table.DELETE_SECRET,
    "Delete a secret; flows that verify senders with it refuse all requests. On a terminal it asks first.",
    question="Delete the secret {name}? Flows that verify senders with it refuse all requests from then on.",
)(showing(lambda deleted: f"{deleted['name']}: deleted"))


def _remark(client: Client, name: str) -> str:
    """Return a warning about a secret that was set, if its name may be a mistake; else an empty string."""
    from flowhook.document.named_secrets import looks_like_value

    if looks_like_value(name):
        return "its name looks like a secret's value, and names are shown: delete it, and set it under another name"
    flows = [flow.id for flow in client.flows.list()]
    if not flows or len(flows) > MAX_SEARCHED or any(_needs(client.flows.get(flow), name) for flow in flows):
        return ""
    return f"no flow names {name} yet; flows have it by its name, exactly"


def _needs(flow: Flow, name: str) -> bool:
    import orjson

    from flowhook.document.definition import walk_everywhere
    from flowhook.document.named_secrets import mentions_secret
    from runner.components.catalogue import descriptions

    definition = orjson.loads(flow.definition)
    if mentions_secret(definition, name):
        return True
    called = {placed.task.get("call") for placed in walk_everywhere(definition)}
    schemas = (item.arguments or {} for item in descriptions() if item.name in called)
    return any(each.get("default") == name for schema in schemas for each in schema.get("properties", {}).values())


def _value(name: str, source: str | None, value: str | None, from_file: Path | None) -> bytes:
    if source not in (None, "-"):
        raise typer.BadParameter("give the value by --value, --from-file or - (stdin)")
    if sum((source is not None, value is not None, from_file is not None)) > 1:
        raise typer.BadParameter("give one of --value, --from-file and -")
    if value is not None:
        return value.encode()
    if from_file is None and source is None and sys.stdin.isatty():
        return str(typer.prompt(f"Value of {name}", hide_input=True)).encode()
    content = sys.stdin.buffer.read() if from_file is None else read_file(from_file)
    return content.removesuffix(b"\n").removesuffix(b"\r")
