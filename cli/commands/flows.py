"""`flowhook flows`: shows, draws, pauses, resumes and deletes flows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.confirmation import Yes, confirm
from cli.options import DataDir, Json, Router
from flowhook.model import Flow
from flowhook.model.flows import FlowCondition

app = typer.Typer(help="Look at flows; draw, pause, resume and delete them.", no_args_is_help=True)

PictureFormat = Literal["mermaid", "svg"]

FlowId = Annotated[str, typer.Argument(metavar="ID", help="ID of the flow: name, or namespace.name.")]


@app.command("list")
def _list(
    *,
    name: Annotated[str, typer.Option(help="Only flows whose ID contains this.")] = "",
    state: Annotated[
        FlowCondition | None,
        typer.Option(help="Only flows that are paused, failed in the last hour, or need a secret that is not set."),
    ] = None,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List flows, with what happened in the last hour and what is pending."""
    from cli.client_factory import open_client
    from cli.output import flow_statistics_as_json, print_json, print_table, rfc3339

    with open_client(router, data_dir) as client:
        flows = client.flows.list_statistics(name_contains=name, condition=state)
        if json:
            for each in flows:
                print_json(flow_statistics_as_json(each))
            return
        print_table(
            ("FLOW", "REVISION", "STATE", "WEBHOOK", "EVENTS/H", "FAULTED/H", "PENDING", "UPDATED", "NEXT", "NEEDS"),
            (
                (
                    each.flow.id,
                    each.flow.revision,
                    _state(each.flow),
                    "yes" if each.flow.has_webhook else "no",
                    sum(each.accepted),
                    sum(each.faulted),
                    each.pending,
                    rfc3339(each.flow.update_time_ms),
                    rfc3339(each.flow.next_time_ms),
                    ", ".join(each.missing_secrets),
                )
                for each in flows
            ),
            empty="no flows; apply one: flowhook apply -f FILE",
        )


@app.command("get")
def _get(
    *,
    flow_id: FlowId,
    revision: Annotated[int, typer.Option(min=0, help="Revision; 0 is the latest.")] = 0,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Print a flow's document as its author wrote it; with --json, everything about it."""
    import orjson

    from cli.client_factory import open_client
    from cli.output import flow_as_json, print_json

    with open_client(router, data_dir) as client:
        flow = client.flows.get(flow_id, revision=revision)
    if json:
        print_json(
            {
                **flow_as_json(flow),
                "document": flow.document.decode(errors="replace"),
                "definition": orjson.loads(flow.definition) if flow.definition else None,
            }
        )
        return
    sys.stdout.buffer.write(flow.document if flow.document.endswith(b"\n") else flow.document + b"\n")


@app.command("revisions")
def _revisions(
    *,
    flow_id: FlowId,
    limit: Annotated[int, typer.Option(min=1, help="Revisions to show at most.")] = 100,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List the stored revisions of a flow, newest first."""
    from cli.client_factory import open_client
    from cli.output import print_json, print_table, rfc3339

    with open_client(router, data_dir) as client:
        rows = [
            {"revision": each.revision, "version": each.version, "updated_at": rfc3339(each.update_time_ms)}
            for each in client.flows.revisions(flow_id, limit=limit)
        ]
    if json:
        for row in rows:
            print_json(row)
        return
    print_table(("REVISION", "VERSION", "UPDATED"), (tuple(row.values()) for row in rows), empty="no revisions")


@app.command("diff")
def _diff(
    *,
    flow_id: FlowId,
    old: Annotated[int, typer.Argument(metavar="[A]", min=0, help="Revision; 0: the one before B.")] = 0,
    new: Annotated[int, typer.Argument(metavar="[B]", min=0, help="Revision; 0: the latest.")] = 0,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Show what changed in a flow's file between two revisions, as a unified diff."""
    from cli.client_factory import open_client
    from cli.output import print_json
    from flowhook.errors import NotFoundError
    from operations.text_diff import diff

    with open_client(router, data_dir) as client:
        after = client.flows.get(flow_id, revision=new)
        if not old and after.revision == 1:
            raise NotFoundError(f"flow {flow_id} has one revision", reason="FLOW_REVISION_NOT_FOUND")
        before = client.flows.get(flow_id, revision=old or after.revision - 1)
    texts = (flow.document.decode(errors="replace") for flow in (before, after))
    lines = [f"--- {flow_id} revision {before.revision}", f"+++ {flow_id} revision {after.revision}"]
    lines += map(str, diff(*texts))
    if json:
        print_json({"id": flow_id, "from": before.revision, "to": after.revision, "diff": lines[2:]})
    elif len(lines) > 2:  # noqa: PLR2004 - there is more than the head
        print("\n".join(lines))


@app.command("pause")
def _pause(*, flow_id: FlowId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Queue a flow's events from now on, without running them."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.flows.pause(flow_id), json=json)


@app.command("resume")
def _resume(*, flow_id: FlowId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Run the queued events of a flow, and new ones."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.flows.resume(flow_id), json=json)


@app.command("delete")
def _delete(*, flow_id: FlowId, yes: Yes = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Delete a flow; executions that were accepted finish. On a terminal it asks first."""
    from cli.client_factory import open_client

    confirm(f"Delete the flow {flow_id}? Its URL answers 404 from then on.", yes=yes)
    with open_client(router, data_dir) as client:
        client.flows.delete(flow_id)
    print(f"{flow_id}: deleted")


@app.command("graph")
def _graph(
    *,
    flow_id: Annotated[str, typer.Argument(metavar="[ID]", help="ID of the flow.", show_default=False)] = "",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="A flow file, instead of an ID.")
    ] = None,
    revision: Annotated[int, typer.Option(min=0, help="Revision; 0 is the latest.")] = 0,
    form: Annotated[PictureFormat, typer.Option("--format", help="Mermaid text, or an SVG file.")] = "mermaid",
    svg: Annotated[bool, typer.Option("--svg", help="The same as --format svg.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Print a picture of a flow; with --file, of one that is not applied."""
    import orjson

    from cli import flow_files
    from cli.client_factory import open_client
    from cli.output import print_json
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
    if json:
        print_json({"id": flow_id, chosen: picture})
    else:
        print(picture, end="")


def _state(flow: Flow) -> str:
    return "paused" if flow.paused else "active"


def _show(flow: Flow, *, json: bool) -> None:
    from cli.output import flow_as_json, print_json

    if json:
        print_json(flow_as_json(flow))
    else:
        print(f"{flow.id}: {_state(flow)}")
