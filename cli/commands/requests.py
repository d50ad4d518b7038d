"""`flowhook requests`: lists all requests that arrived, and what became of them."""

from __future__ import annotations

import typer

from cli.execution_tables import Shown
from cli.operation_commands import listing
from operations import table


def _row(found: Shown) -> tuple[object, ...]:
    flow = f"{found['flow']}/{found['callback']}" if found["callback"] else found["flow"]
    what = found["execution"] or found["rejection"]
    return found["time"], flow, found["outcome"], found["status"] or "", found["reason"], what


def register(app: typer.Typer) -> None:
    listing(
        app,
        "requests",
        table.LIST_REQUESTS,
        ("TIME", "FLOW", "OUTCOME", "STATUS", "REASON", "EXECUTION OR REJECTION"),
        _row,
        text="List all requests that arrived, newest first: also those that were filtered, refused or repeated.",
        empty="no requests",
        limit=100,
    )
