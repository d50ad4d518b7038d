"""`flowhook audit`: shows who changed what."""

from __future__ import annotations

import typer

from cli.execution_tables import Shown
from cli.operation_commands import listing
from operations import table

app = typer.Typer(help="Look at what was changed, by whom, and why.", no_args_is_help=True)


def _row(entry: Shown) -> tuple[object, ...]:
    repeated = f"{entry['error']}, {entry['calls']} times until {entry['last_time']}"
    result = repeated if entry["calls"] > 1 else entry["error"] or "done"
    return (*(entry[name] for name in ("time", "actor", "address", "action", "target")), result, entry["reason"])


listing(
    app,
    "list",
    table.LIST_AUDIT,
    ("TIME", "TOKEN", "FROM", "ACTION", "TARGET", "RESULT", "REASON"),
    _row,
    text="List the entries of the audit log, newest first.",
    empty="no entries",
    limit=100,
)
