"""`flowhook jobs`: watches what verbs of `flowhook executions` do to all executions that match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from typer import Option

from cli.bulk import COLUMNS, ITEM_COLUMNS, follow, item_row, job_row, progress
from cli.operation_commands import OperationCall, command, flag, keyword, listing, print_items, read_options, showing
from cli.output import print_fields, print_json
from flowhook.model.jobs import ItemOutcome
from operations import table

app = typer.Typer(help="Watch, pause and abort jobs: verbs of `executions` with conditions.", no_args_is_help=True)

listing(app, "list", table.LIST_JOBS, COLUMNS, job_row, text="List jobs, newest first.", empty="no jobs", limit=50)


OUTCOME: Final = Annotated[ItemOutcome | None, Option(help="With --items: only this outcome.", case_sensitive=False)]


def _check(given: Mapping[str, Any]) -> None:
    if given["outcome"] is not None and not given["items"]:
        raise typer.BadParameter("--outcome requires --items")


@command(
    app,
    "get",
    table.GET_JOB,
    check=_check,
    more=[
        flag("items", "Print the outcome of each execution instead."),
        keyword("outcome", OUTCOME, None),
        flag("wait", "Print the progress until the job ends."),
    ],
)
def _get(call: OperationCall) -> None:
    """Show a job and its progress, or the outcomes of its executions."""
    job = call.operator.shown(call.operation, call.parameters)
    if call.options["wait"]:
        job = follow(call.operator, job)
    if call.options["items"]:
        wanted = read_options(table.LIST_JOB_ITEMS, {"job_id": job["id"], "outcome": call.options["outcome"]})
        items = (item for page in call.operator.pages(table.LIST_JOB_ITEMS, wanted) for item in page.items)
        print_items(items, ITEM_COLUMNS, item_row, empty="no outcomes", json=call.json)
    elif call.json:
        print_json(job)
    else:
        print_fields(job.items())


for _name, _operation, _text in (
    ("pause", table.PAUSE_JOB, "Pause a job within a second."),
    ("resume", table.RESUME_JOB, "Let a paused job continue."),
    ("abort", table.ABORT_JOB, "End a job within a second; what it did stays done."),
):
    command(app, _name, _operation, _text)(showing(progress))
