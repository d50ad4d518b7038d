"""`flowhook rejections`: shows refused requests and the reasons."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.execution_tables import Shown
from cli.operation_commands import OperationCall, command, listing, one_of, read_options, showing
from operations import table

app = typer.Typer(help="Look at requests that were refused, and why; accept them after the fix.", no_args_is_help=True)


def _row(found: Shown) -> tuple[object, ...]:
    flow = f"{found['flow']}/{found['callback']}" if found["callback"] else found["flow"]
    return found["id"], found["refused_at"], flow, found["status"], found["reason"], found["address"]


app.command("list")(
    listing(
        table.LIST_REJECTIONS,
        ("ID", "TIME", "FLOW", "STATUS", "REASON", "FROM"),
        _row,
        text="List refused requests, newest first.",
        empty="no rejections",
        limit=100,
    )
)


def _show(call: OperationCall) -> None:
    if not call.options["body"]:
        showing(_print)(call)
        return
    body = read_options(table.READ_REJECTION_BODY, {"rejection_id": call.parameters.rejection_id})
    for chunk in call.operator.chunks(table.READ_REJECTION_BODY, body):
        sys.stdout.buffer.write(chunk)


def _print(found: Shown) -> None:
    from cli.output import print_fields

    print_fields((name, value) for name, value in found.items() if name != "body")


app.command("show")(
    command(
        table.GET_REJECTION,
        _show,
        text="Show a refused request: why it was refused, its headers, and what would have made it pass.",
        check=one_of("body", "json"),
        more={"body": (Annotated[bool, typer.Option("--body", help="Print only the body, if it is stored.")], False)},
    )
)


def _accepted(accepted: Shown) -> str:
    known = " (accepted before)" if accepted["duplicate"] else ""
    return f"{accepted['rejection']}: accepted as {accepted['event']}{known}"


app.command("accept")(
    command(
        table.ACCEPT_REJECTION,
        showing(_accepted),
        text="Verify a refused request again, after its flow or a secret was corrected, and accept it.",
    )
)
