"""`flowhook rejections`: shows refused requests and the reasons."""

from __future__ import annotations

import sys

import typer

from cli.execution_tables import Shown
from cli.operation_commands import OperationCall, command, flag, listing, one_of, showing
from cli.output import print_fields
from operations import table

app = typer.Typer(help="Look at requests that were refused, and why; accept them after the fix.", no_args_is_help=True)


def _row(found: Shown) -> tuple[object, ...]:
    flow = f"{found['flow']}/{found['callback']}" if found["callback"] else found["flow"]
    return found["id"], found["refused_at"], flow, found["status"], found["reason"], found["address"]


listing(
    app,
    "list",
    table.LIST_REJECTIONS,
    ("ID", "TIME", "FLOW", "STATUS", "REASON", "FROM"),
    _row,
    text="List refused requests, newest first.",
    empty="no rejections",
    limit=100,
)


@command(
    app,
    "show",
    table.GET_REJECTION,
    check=one_of("body", "json"),
    more=[flag("body", "Print only the body, if it is stored.")],
)
def _show(call: OperationCall) -> None:
    """Show a refused request: why it was refused, its headers, and what would have made it pass."""
    if not call.options["body"]:
        showing(_print)(call)
        return
    for chunk in call.operator.chunks(table.READ_REJECTION_BODY, rejection_id=call.parameters.rejection_id):
        sys.stdout.buffer.write(chunk)


def _print(found: Shown) -> None:
    print_fields((name, value) for name, value in found.items() if name != "body")


def _accepted(accepted: Shown) -> str:
    known = " (accepted before)" if accepted["duplicate"] else ""
    return f"{accepted['rejection']}: accepted as {accepted['event']}{known}"


command(
    app,
    "accept",
    table.ACCEPT_REJECTION,
    "Verify a refused request again, after its flow or a secret was corrected, and accept it.",
)(showing(_accepted))
