"""`flowhook audit`: shows who changed what."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cli.options import DataDir, Json, Router

app = typer.Typer(help="Look at what was changed, by whom, and why.", no_args_is_help=True)

COLUMNS: Final = ("TIME", "TOKEN", "ACTION", "TARGET", "RESULT", "REASON")


@app.command("list")
def _list(
    *,
    actor: Annotated[str, typer.Option("--actor", metavar="NAME", help="Only calls with this token.")] = "",
    action: Annotated[
        str, typer.Option("--action", metavar="METHOD", help="Only these, for example FlowService/PauseFlow.")
    ] = "",
    target: Annotated[
        str, typer.Option("--target", metavar="TEXT", help="Only those about an ID with this text.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number; the newest are printed.")] = 100,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List the entries of the audit log, newest first."""
    from cli.client_factory import open_client
    from cli.output import print_json, print_table, rfc3339

    with open_client(router, data_dir) as client:
        found = list(client.audit.list(actor=actor, action=action, target=target, limit=limit))
    if json:
        for each in found:
            values = each._asdict()
            print_json({"number": values.pop("number"), "time": rfc3339(values.pop("time_ms")), **values})
        return
    rows = ((rfc3339(e.time_ms), e.actor, e.action, e.target, e.error or "done", e.reason) for e in found)
    print_table(COLUMNS, rows, empty="no entries")
