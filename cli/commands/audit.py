"""`flowhook audit`: shows who changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import DataDir, Json, Router

if TYPE_CHECKING:
    from flowhook.model.audit import AuditEntry

app = typer.Typer(help="Look at what was changed, by whom, and why.", no_args_is_help=True)

COLUMNS: Final = ("TIME", "TOKEN", "FROM", "ACTION", "TARGET", "RESULT", "REASON")


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
            number, time, last = (values.pop(name) for name in ("number", "time_ms", "last_time_ms"))
            print_json({"number": number, "time": rfc3339(time), **values, "last_time": rfc3339(last)})
        return
    rows = ((rfc3339(e.time_ms), e.actor, e.address, e.action, e.target, _result(e), e.reason) for e in found)
    print_table(COLUMNS, rows, empty="no entries")


def _result(entry: AuditEntry) -> str:
    if entry.calls == 1:
        return entry.error or "done"
    from cli.output import rfc3339

    return f"{entry.error}, {entry.calls} times until {rfc3339(entry.last_time_ms)}"
