"""`flowhook incidents`: shows destinations of calls that are or were down, and what waits for them."""

from __future__ import annotations

import typer

from cli.execution_tables import Shown
from cli.operation_commands import command, listing, showing
from cli.output import print_fields
from operations import table

app = typer.Typer(help="Look at destinations that are down, and at what waits for them.", no_args_is_help=True)


def _row(found: Shown) -> tuple[object, ...]:
    state = "over" if found["closed_at"] else "draining" if found["draining"] else "down"
    return found["id"], state, found["opened_at"], found["destination"], found["waiting"], found["cause"]


listing(
    app,
    "list",
    table.LIST_INCIDENTS,
    ("ID", "STATE", "SINCE", "DESTINATION", "WAITING", "CAUSE"),
    _row,
    text="List incidents: the open ones, then those that are over, newest first.",
    empty="no incidents",
    limit=100,
)


def _print(found: Shown) -> None:
    print_fields((name, value) for name, value in found.items() if name != "history")
    for note in found["history"]:
        print(f"{note['time']}  {note['text']}")


command(app, "get", table.GET_INCIDENT, "Show an incident with its history.")(showing(_print))
command(app, "probe", table.PROBE_INCIDENT, "Let one execution that waits call the destination now.")(
    showing(lambda found: f"{found['id']}: the next probe of {found['destination']} is made now")
)
command(
    app,
    "let-fail",
    table.LET_INCIDENT_FAIL,
    "Let the calls that wait now fail with the last cause, so that their `catch` runs.",
)(showing(lambda found: f"{found['incident']}: the calls of {found['executions']} executions fail"))
