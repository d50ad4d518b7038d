"""`flowhook rejections`: shows refused requests and the reasons."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.options import DataDir, Json, Router

if TYPE_CHECKING:
    from flowhook.model.rejections import RejectedRequest

app = typer.Typer(help="Look at requests that were refused, and why; accept them after the fix.", no_args_is_help=True)

COLUMNS: Final = ("ID", "TIME", "FLOW", "STATUS", "REASON", "FROM")


@app.command("list")
def _list(
    *,
    flow: Annotated[str, typer.Option("--flow", metavar="ID", help="Only those of this flow.")] = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="Only those with this reason, as SIGNATURE_MISMATCH.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number; the newest are printed.")] = 100,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List refused requests, newest first."""
    from cli.client_factory import open_client, require_flow
    from cli.output import print_json, print_table

    with open_client(router, data_dir) as client:
        found = list(require_flow(client, flow, client.rejections.list(flow_id=flow, reason=reason, limit=limit)))
    if json:
        for each in found:
            print_json(_as_json(each))
        return
    print_table(COLUMNS, map(_row, found), empty="no rejections")


@app.command("show")
def _show(
    *,
    rejection_id: Annotated[str, typer.Argument(metavar="ID", help="ID of the rejection.")],
    body: Annotated[bool, typer.Option("--body", help="Print only the body, if it is stored.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Show a refused request: why it was refused, its headers, and what would have made it pass."""
    from cli.client_factory import open_client
    from cli.output import print_fields, print_json

    if body and json:
        raise typer.BadParameter("give one of --body and --json")
    with open_client(router, data_dir) as client:
        found = client.rejections.get(rejection_id)
    if body:
        sys.stdout.buffer.write(found.body)
        return
    headers = {name: value.decode("utf-8", "replace") for name, value in found.headers}
    content = {**_as_json(found), "headers": headers}
    if json:
        print_json({**content, "body": found.body.decode("utf-8", "replace") if found.body else None})
    else:
        print_fields(content.items())


@app.command("accept")
def _accept(
    *,
    rejection_id: Annotated[str, typer.Argument(metavar="ID", help="ID of the rejection.")],
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Verify a refused request again, after its flow or a secret was corrected, and accept it."""
    from cli.client_factory import open_client
    from cli.output import print_json

    with open_client(router, data_dir) as client:
        accepted = client.rejections.accept(rejection_id)
    if json:
        event, execution = accepted.event_id, accepted.execution_id or None
        print_json({"id": rejection_id, "event": event, "execution": execution, "duplicate": accepted.duplicate})
        return
    known = " (accepted before)" if accepted.duplicate else ""
    typer.echo(f"{rejection_id}: accepted as {accepted.event_id}{known}")


def _row(request: RejectedRequest) -> tuple[object, ...]:
    from cli.output import rfc3339

    flow = f"{request.flow_id}/{request.callback}" if request.callback else request.flow_id
    return request.id, rfc3339(request.time_ms), flow, request.status, request.reason, request.address


def _as_json(request: RejectedRequest) -> dict[str, Any]:
    from cli.output import rfc3339

    return {
        "id": request.id,
        "time": rfc3339(request.time_ms),
        "flow": request.flow_id,
        "callback": request.callback or None,
        "status": request.status,
        "reason": request.reason,
        "detail": request.detail,
        "address": request.address,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "body_size": None if request.body_size < 0 else request.body_size,
        "suppressed": request.suppressed,
        "acceptable": request.acceptability.value,
        "accepted_as": request.accepted_event_id or None,
    }
