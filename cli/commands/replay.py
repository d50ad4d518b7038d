"""`flowhook executions replay`: runs executions again, as they were or with changes."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cli.options import DataDir, Json, Router
from flowhook.model import Status


class ReplayStart(StrEnum):
    """Starting point of a replay."""

    START = "start"
    FAILED = "failed"


class ReplayRevision(StrEnum):
    """Flow revision that a replay runs."""

    PINNED = "pinned"
    LATEST = "latest"


def replay(
    *,
    execution_id: Annotated[str, typer.Argument(metavar="[ID]", help="ID of the execution.", show_default=False)] = "",
    flow: Annotated[str, typer.Option("--flow", metavar="ID", help="Only those of this flow.")] = "",
    status: Annotated[
        list[Status] | None,
        typer.Option("--status", help="Only those in this status; may be given several times.", case_sensitive=False),
    ] = None,
    start: Annotated[
        ReplayStart,
        typer.Option("--from", help="From the start, or from the failed task with the results before it."),
    ] = ReplayStart.START,
    from_failed: Annotated[bool, typer.Option("--from-failed", help="The same as --from failed.")] = False,
    from_task: Annotated[
        str,
        typer.Option(
            "--from-task",
            metavar="POINTER",
            help="From the first run of this task, with the results before it, as `executions get` names it.",
        ),
    ] = "",
    set_output: Annotated[
        str | None,
        typer.Option(
            "--set-output",
            metavar="JSON_OR_@FILE",
            help="Output of that task, which is not performed; @- is stdin.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="TEXT_OR_@FILE", help="Body instead of the stored one; @- is stdin."),
    ] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", metavar="TYPE", help="Media type of --data.")
    ] = None,
    revision: Annotated[
        ReplayRevision, typer.Option(help="The revision that was executed, or the flow's latest one.")
    ] = ReplayRevision.PINNED,
    latest: Annotated[bool, typer.Option("--latest", help="The same as --revision latest.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Include those that were replayed already, or are marked as resolved.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be replayed, and which tasks run again; start nothing.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Maximum number per second.", show_default=False)
    ] = None,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Run the stored event of an execution again, or, with --flow and --status, of all that match."""
    from cli.client_factory import open_client
    from cli.exec_input import read_option_content
    from cli.replay import Replayer, ReplayOptions

    wanted = status or []
    failed = from_failed or start is ReplayStart.FAILED
    _check_selection(execution_id, flow, wanted)
    if failed and Status.COMPLETED in wanted:
        raise typer.BadParameter("completed executions have no failed task; use --from start")
    if not execution_id and (from_task or data is not None):
        raise typer.BadParameter("--from-task and --data are for one execution: give its ID")
    if from_task and failed:
        raise typer.BadParameter("give one of --from failed and --from-task")
    if set_output is not None and not from_task:
        raise typer.BadParameter("--set-output requires --from-task")
    if data is not None and (failed or from_task):
        raise typer.BadParameter("--data replaces what all tasks have seen: it needs a replay from the start")
    if content_type is not None and data is None:
        raise typer.BadParameter("--content-type requires --data")
    options = ReplayOptions(
        latest=latest or revision is ReplayRevision.LATEST,
        from_failed=failed,
        from_task=from_task,
        output=None if set_output is None else read_option_content("--set-output", set_output),
        body=None if data is None else read_option_content("--data", data),
        content_type=content_type,
    )
    with open_client(router, data_dir) as client:
        replayer = Replayer(client, options, again=again, dry_run=dry_run, rate=rate, json=json)
        if execution_id:
            replayer.one(execution_id)
        elif replayer.all(flow, wanted, ask=not yes and sys.stdin.isatty()):
            raise typer.Exit(1)


def _check_selection(execution_id: str, flow: str, statuses: list[Status]) -> None:
    if bool(execution_id) == bool(flow):
        raise typer.BadParameter("give the ID of an execution, or --flow with --status")
    if execution_id and statuses:
        raise typer.BadParameter("--status requires --flow")
    if flow and not statuses:
        raise typer.BadParameter("--flow requires --status, such as --status faulted")
    if not all(status.ended for status in statuses):
        raise typer.BadParameter("only ended executions can be replayed: completed, faulted, cancelled")
