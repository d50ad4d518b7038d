"""`flowhook flows`: shows, draws, pauses, resumes and deletes flows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from cli.execution_tables import Shown
from cli.operation_commands import OperationCall, command, listing, showing
from cli.options import DataDir, Json, Router
from cli.output import print_json
from flowhook.errors import NotFoundError
from operations import table
from operations.text_diff import DiffLine

app = typer.Typer(help="Look at flows; draw, pause, resume and delete them.", no_args_is_help=True)
PictureFormat = Literal["mermaid", "svg"]


def _row(flow: Shown) -> tuple[object, ...]:
    numbers = flow["numbers"]
    counts = (numbers[name] for name in ("accepted_in_hour", "faulted_in_hour", "retrying", "pending"))
    needs = ", ".join(numbers["missing_secrets"])
    webhook = "yes" if flow["webhook"] else "no"
    state = _state(flow) + (", silent" if numbers["silent_since"] else "")
    return flow["id"], flow["revision"], state, webhook, *counts, flow["updated_at"], flow["next_at"], needs


listing(
    app,
    "list",
    table.LIST_FLOWS,
    (
        "FLOW",
        "REVISION",
        "STATE",
        "WEBHOOK",
        "EVENTS/H",
        "FAULTED/H",
        "RETRYING",
        "PENDING",
        "UPDATED",
        "NEXT",
        "NEEDS",
    ),
    _row,
    text="List flows, with what happened in the last hour and what is pending.",
    empty="no flows; apply one: flowhook apply -f FILE",
)
command(
    app, "get", table.GET_FLOW, "Print a flow's document as its author wrote it; with --json, everything about it."
)(showing(lambda flow: str(flow["document"]).removesuffix("\n")))
listing(
    app,
    "revisions",
    table.LIST_REVISIONS,
    ("REVISION", "VERSION", "UPDATED"),
    lambda each: (each["revision"], each["version"], each["updated_at"]),
    text="List the stored revisions of a flow, newest first.",
    empty="no revisions",
    limit=100,
)


@command(app, "diff", table.DIFF_REVISIONS, arguments={"flow_id": "ID", "old": "A", "new": "B"})
def _diff(call: OperationCall) -> None:
    """Show what changed in a flow's file between two revisions, as a unified diff."""

    def text(found: Shown) -> str | None:
        if not found["old"]:
            raise NotFoundError(f"flow {flow_id} has one revision", reason="FLOW_REVISION_NOT_FOUND")
        head = [f"--- {flow_id} revision {found['old']}", f"+++ {flow_id} revision {found['new']}"]
        lines = [str(DiffLine(**each)) for each in found["lines"]]
        return "\n".join([*head, *lines]) if lines else None

    flow_id = call.parameters.flow_id
    showing(text)(call)


def _told(flow: Shown) -> str:
    return f"{flow['id']}: {_state(flow)}"


def _state(flow: Shown) -> str:
    return "paused" if flow["paused"] else "active"


command(app, "pause", table.PAUSE_FLOW, "Queue a flow's events from now on, without running them.")(showing(_told))
command(app, "resume", table.RESUME_FLOW, "Run the queued events of a flow, and new ones.")(showing(_told))
command(
    app,
    "delete",
    table.DELETE_FLOW,
    "Delete a flow; executions that were accepted finish. On a terminal it asks first.",
    question="Delete the flow {flow_id}? Its URL answers 404 from then on.",
)(showing(lambda deleted: f"{deleted['id']}: deleted"))


@app.command("graph")
def _graph(
    *,
    flow_id: Annotated[str, Argument(metavar="[ID]", help="ID of the flow.", show_default=False)] = "",
    file: Annotated[Path | None, Option("--file", "-f", metavar="FILE", help="A flow file, instead of an ID.")] = None,
    revision: Annotated[int, Option(min=0, help="Revision; 0 is the latest.")] = 0,
    form: Annotated[PictureFormat, Option("--format", help="Mermaid text, or an SVG file.")] = "mermaid",
    svg: Annotated[bool, Option("--svg", help="The same as --format svg.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Print a picture of a flow; with --file, of one that is not applied."""
    import orjson

    from cli import flow_files
    from cli.client_factory import open_client
    from operations.diagram.mermaid import mermaid
    from operations.diagram.svg import svg as draw_svg

    if bool(flow_id) == (file is not None):
        raise typer.BadParameter("give the ID of a flow, or --file")
    if file is not None:
        if file.is_dir():
            raise typer.BadParameter(f"{file} is a directory; a graph shows one flow")
        document = flow_files.read_flow_files([file])[0].document
        flow_id, definition = document.id, document.definition
    else:
        with open_client(router, data_dir) as client:
            definition = orjson.loads(client.flows.get(flow_id, revision=revision).definition)
    chosen = "svg" if svg else form
    picture = draw_svg(definition, flow_id, standalone=True) if chosen == "svg" else mermaid(definition, flow_id)
    print_json({"id": flow_id, chosen: picture}) if json else print(picture, end="")
