"""`flowhook flows`, `overview`: shows flows and what they did; draws, pauses, resumes and deletes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from typer import Argument, Option

from cli.execution_tables import Shown, duration
from cli.operation_commands import OperationCall, command, listing, showing
from cli.options import DataDir, Json, Router
from cli.output import print_json, print_table
from flowhook.errors import NotFoundError
from operations import table
from operations.comparison import DiffLine

flows = typer.Typer(help="Look at flows; draw, pause, resume and delete them.", no_args_is_help=True)
PictureFormat = Literal["mermaid", "svg"]


def _row(flow: Shown) -> tuple[object, ...]:
    numbers = flow["numbers"]
    counts = (numbers[name] for name in ("accepted_in_hour", "faulted_in_hour", "retrying", "pending"))
    needs = ", ".join(numbers["missing_secrets"])
    webhook = "yes" if flow["webhook"] else "no"
    state = _state(flow) + (", silent" if numbers["silent_since"] else "")
    return flow["id"], flow["revision"], state, webhook, *counts, flow["updated_at"], flow["next_at"], needs


listing(
    flows,
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
    flows, "get", table.GET_FLOW, "Print a flow's document as its author wrote it; with --json, everything about it."
)(showing(lambda flow: str(flow["document"]).removesuffix("\n")))
listing(
    flows,
    "revisions",
    table.LIST_REVISIONS,
    ("REVISION", "VERSION", "UPDATED"),
    lambda each: (each["revision"], each["version"], each["updated_at"]),
    text="List the stored revisions of a flow, newest first.",
    empty="no revisions",
    limit=100,
)


@command(flows, "diff", table.DIFF_REVISIONS, arguments={"flow_id": "ID", "old": "A", "new": "B"})
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


command(flows, "pause", table.PAUSE_FLOW, "Queue a flow's events from now on, without running them.")(showing(_told))
command(flows, "resume", table.RESUME_FLOW, "Run the queued events of a flow, and new ones.")(showing(_told))
command(
    flows,
    "delete",
    table.DELETE_FLOW,
    "Delete a flow; executions that were accepted finish. On a terminal it asks first.",
    question="Delete the flow {flow_id}? Its URL answers 404 from then on.",
)(showing(lambda deleted: f"{deleted['id']}: deleted"))


@flows.command("graph")
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


WIDTH: Final = 32  # characters for the steps of a period
BLOCKS: Final = "▁▂▃▄▅▆▇█"
OVERVIEW_COLUMNS: Final = ("", "NOW", "BEFORE", "OVER TIME")


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB" if value else "-"  # not known then


OVERVIEW_ROWS: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("accepted", "accepted", _count),
    ("completed", "completed", _count),
    ("faulted", "faulted", _count),
    ("cancelled", "cancelled", _count),
    ("latency p50", "latency_p50", duration),
    ("latency p99", "latency_p99", duration),
    ("wait p99", "wait_p99", duration),
    ("pending", "pending", _count),
    ("oldest pending", "oldest_pending", duration),
    ("retrying", "retrying", _count),
    ("incidents", "incidents", _count),
    ("storage", "storage_bytes", _mebibytes),
)
"""Names, fields and how their values are shown."""


def blocks(values: Sequence[float | None]) -> str:
    """Return at most `WIDTH` blocks, each as high as the greatest of some numbers; a space where there is none."""
    several = -(-len(values) // WIDTH)
    heights = [max(filter(None, values[at : at + several]), default=0) for at in range(0, len(values), several)]
    most, last = max(heights, default=0), len(BLOCKS) - 1
    return "".join(BLOCKS[round(height * last / most)] if height else " " for height in heights)


def register(app: typer.Typer) -> None:
    command(
        app,
        "overview",
        table.GET_OVERVIEW,
        "Show what all flows, or one, did over a period: throughput, faults, latency, queue, incidents, storage.",
        arguments={"flow": "FLOW"},
    )(_show_overview)


def _show_overview(call: OperationCall) -> None:
    overview = call.perform()
    if call.json:
        print_json(overview)
        return
    rows = []
    for name, field, text in OVERVIEW_ROWS:
        values: list[Any] = [getattr(each, field) for each in (overview.total, overview.before)]
        if values[0] is not None or not field.startswith(("incidents", "storage")):
            shown = ("-" if value is None else text(value) for value in values)
            rows.append((name, *shown, blocks([getattr(point, field) for point in overview.points])))
    print_table(OVERVIEW_COLUMNS, rows, empty="")
