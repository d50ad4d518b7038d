"""`flowhook executions`: looks at executions, replays and cancels them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, Json, Router
from flowhook.errors import FlowhookError
from flowhook.model import Execution, Status

if TYPE_CHECKING:
    from flowhook.client import Client

app = typer.Typer(help="Look at executions; replay and cancel them.", no_args_is_help=True)

ExecutionId = Annotated[str, typer.Argument(metavar="ID", help="ID of the execution: evt_…")]
Flow = Annotated[str, typer.Option("--flow", metavar="ID", help="Of this flow only.")]
Statuses = Annotated[
    list[Status] | None,
    typer.Option("--status", help="In this status only; may be given several times.", case_sensitive=False),
]

COLUMNS = ("EXECUTION", "FLOW", "STATUS", "RECEIVED", "ENDED", "ATTEMPTS", "ERROR")


@app.command("list")
def _list(
    *,
    flow: Flow = "",
    status: Statuses = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List executions, newest first."""
    from cli.connection import open_client
    from cli.output import execution_as_json, print_json, print_table

    with open_client(router, data_dir) as client:
        found = client.executions.list(flow_id=flow, statuses=status or (), limit=limit)
        if json:
            for execution in found:
                print_json(execution_as_json(execution))
            return
        print_table(COLUMNS, map(row, found), empty="no executions")


@app.command("get")
def _get(
    *,
    execution_id: ExecutionId,
    raw: Annotated[bool, typer.Option("--raw", help="Print the body of the request, byte for byte.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Show an execution with its request, its tasks and its output."""
    from cli.connection import open_client
    from cli.output import detail_as_json, print_fields, print_json

    if raw and json:
        raise typer.BadParameter("give one of --raw and --json")
    with open_client(router, data_dir) as client:
        detail = client.executions.get(execution_id)
    if raw:
        sys.stdout.buffer.write(detail.event.body)
    elif json:
        print_json(detail_as_json(detail))
    else:
        print_fields(detail_as_json(detail).items())


@app.command("replay")
def _replay(
    *,
    execution_id: Annotated[str, typer.Argument(metavar="[ID]", help="ID of the execution.", show_default=False)] = "",
    flow: Flow = "",
    status: Statuses = None,
    latest: Annotated[bool, typer.Option("--latest", help="On the flow's latest revision.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Run the stored event of an execution again, or, with --flow and --status, of all that match."""
    from cli.connection import open_client

    if bool(execution_id) == bool(flow):
        raise typer.BadParameter("give the ID of an execution, or --flow with --status")
    if execution_id and status:
        raise typer.BadParameter("--status goes with --flow")
    if flow and not status:
        raise typer.BadParameter("--flow needs --status: say --status faulted")
    if not all(item.ended for item in status or ()):
        raise typer.BadParameter("only executions that ended are replayed: completed, faulted, cancelled")
    with open_client(router, data_dir) as client:
        if execution_id:
            _show_replay(execution_id, client.executions.replay(execution_id, latest=latest), json=json)
        elif _replay_all(client, flow, status or [], latest=latest, json=json):
            raise typer.Exit(1)


def _replay_all(client: Client, flow: str, statuses: list[Status], *, latest: bool, json: bool) -> int:
    """Replay what matches now, and return how many could not be."""
    # all of them first: those that are started while this runs must not be found again
    found = [execution.id for execution in client.executions.list(flow_id=flow, statuses=statuses)]
    failed = 0
    for execution_id in reversed(found):  # in the order in which they arrived
        try:
            _show_replay(execution_id, client.executions.replay(execution_id, latest=latest), json=json)
        except FlowhookError as error:
            failed += 1
            print(f"flowhook: {execution_id}: {error.message}", file=sys.stderr)
    if not json:
        print(f"{len(found) - failed} of {len(found)} replayed")
    return failed


def _show_replay(execution_id: str, started: Execution, *, json: bool) -> None:
    from cli.output import execution_as_json, print_json

    if json:
        print_json({**execution_as_json(started), "replay_of": execution_id})
    else:
        print(f"{execution_id}: replayed as {started.id}")


@app.command("cancel")
def _cancel(*, execution_id: ExecutionId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Cancel an execution that has not ended."""
    from cli.connection import open_client
    from cli.output import execution_as_json, print_json

    with open_client(router, data_dir) as client:
        execution = client.executions.cancel(execution_id)
    if json:
        print_json(execution_as_json(execution))
    else:
        print(f"{execution.id}: {execution.status}")


def row(execution: Execution) -> tuple[object, ...]:
    """Return an execution as a row under `COLUMNS`."""
    from cli.output import rfc3339

    error = execution.error
    return (
        execution.id,
        execution.flow_id,
        str(execution.status),
        rfc3339(execution.receive_time_ms),
        rfc3339(execution.end_time_ms),
        execution.attempts,
        "" if error is None else f"{error.status} {error.title}: {error.detail}",
    )
