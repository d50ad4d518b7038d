"""`flowhook audit`, `incidents`, `rejections`, `requests`: what routers and edges noted, and what to do about it."""

from __future__ import annotations

import sys

import typer

from cli.execution_tables import Shown
from cli.operation_commands import OperationCall, command, flag, listing, one_of, showing
from cli.output import print_fields
from operations import table

audit = typer.Typer(help="Look at what was changed, by whom, and why.", no_args_is_help=True)


def _audit_row(entry: Shown) -> tuple[object, ...]:
    repeated = f"{entry['error']}, {entry['calls']} times until {entry['last_time']}"
    result = repeated if entry["calls"] > 1 else entry["error"] or "done"
    return (*(entry[name] for name in ("time", "actor", "address", "action", "target")), result, entry["reason"])


listing(
    audit,
    "list",
    table.LIST_AUDIT,
    ("TIME", "TOKEN", "FROM", "ACTION", "TARGET", "RESULT", "REASON"),
    _audit_row,
    text="List the entries of the audit log, newest first.",
    empty="no entries",
    limit=100,
)


incidents = typer.Typer(help="Look at destinations that are down, and at what waits for them.", no_args_is_help=True)


def _incident_row(found: Shown) -> tuple[object, ...]:
    state = "over" if found["closed_at"] else "draining" if found["draining"] else "down"
    return found["id"], state, found["opened_at"], found["destination"], found["waiting"], found["cause"]


listing(
    incidents,
    "list",
    table.LIST_INCIDENTS,
    ("ID", "STATE", "SINCE", "DESTINATION", "WAITING", "CAUSE"),
    _incident_row,
    text="List incidents: the open ones, then those that are over, newest first.",
    empty="no incidents",
    limit=100,
)


def _print_incident(found: Shown) -> None:
    print_fields((name, value) for name, value in found.items() if name != "history")
    for note in found["history"]:
        print(f"{note['time']}  {note['text']}")


command(incidents, "get", table.GET_INCIDENT, "Show an incident with its history.")(showing(_print_incident))
command(incidents, "probe", table.PROBE_INCIDENT, "Let one execution that waits call the destination now.")(
    showing(lambda found: f"{found['id']}: the next probe of {found['destination']} is made now")
)
command(
    incidents,
    "let-fail",
    table.LET_INCIDENT_FAIL,
    "Let the calls that wait now fail with the last cause, so that their `catch` runs.",
)(showing(lambda found: f"{found['incident']}: the calls of {found['executions']} executions fail"))


rejections = typer.Typer(
    help="Look at requests that were refused, and why; accept them after the fix.", no_args_is_help=True
)


def _rejection_row(found: Shown) -> tuple[object, ...]:
    flow = f"{found['flow']}/{found['callback']}" if found["callback"] else found["flow"]
    return found["id"], found["refused_at"], flow, found["status"], found["reason"], found["address"]


listing(
    rejections,
    "list",
    table.LIST_REJECTIONS,
    ("ID", "TIME", "FLOW", "STATUS", "REASON", "FROM"),
    _rejection_row,
    text="List refused requests, newest first.",
    empty="no rejections",
    limit=100,
)


@command(
    rejections,
    "show",
    table.GET_REJECTION,
    check=one_of("body", "json"),
    more=[flag("body", "Print only the body, if it is stored.")],
)
def _show(call: OperationCall) -> None:
    """Show a refused request: why it was refused, its headers, and what would have made it pass."""
    if not call.options["body"]:
        showing(_print_rejection)(call)
        return
    for chunk in call.operator.chunks(table.READ_REJECTION_BODY, rejection_id=call.parameters.rejection_id):
        sys.stdout.buffer.write(chunk)


def _print_rejection(found: Shown) -> None:
    print_fields((name, value) for name, value in found.items() if name != "body")


def _accepted(accepted: Shown) -> str:
    known = " (accepted before)" if accepted["duplicate"] else ""
    return f"{accepted['rejection']}: accepted as {accepted['event']}{known}"


command(
    rejections,
    "accept",
    table.ACCEPT_REJECTION,
    "Verify a refused request again, after its flow or a secret was corrected, and accept it.",
)(showing(_accepted))


def _request_row(found: Shown) -> tuple[object, ...]:
    flow = f"{found['flow']}/{found['callback']}" if found["callback"] else found["flow"]
    what = found["execution"] or found["rejection"]
    return found["time"], flow, found["outcome"], found["status"] or "", found["reason"], what


def register(app: typer.Typer) -> None:
    listing(
        app,
        "requests",
        table.LIST_REQUESTS,
        ("TIME", "FLOW", "OUTCOME", "STATUS", "REASON", "EXECUTION OR REJECTION"),
        _request_row,
        text="List all requests that arrived, newest first: also those that were filtered, refused or repeated.",
        empty="no requests",
        limit=100,
    )
