"""Options of commands that replay executions: one, or those of a job."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from flowhook.replays import ReplayOptions


class ReplayStart(StrEnum):
    """Starting point of a replay."""

    START = "start"
    FAILED = "failed"


class ReplayRevision(StrEnum):
    """Flow revision that a replay runs."""

    PINNED = "pinned"
    LATEST = "latest"


Start = Annotated[
    ReplayStart,
    typer.Option("--from", help="Replays: from the start, or from the failed task with the results before it."),
]
FromFailed = Annotated[bool, typer.Option("--from-failed", help="The same as --from failed.")]
FromTask = Annotated[
    str,
    typer.Option(
        "--from-task",
        metavar="POINTER",
        help="Replays: from the first run of this task, with the results before it, as `executions get` names it.",
    ),
]
SetOutput = Annotated[
    str | None,
    typer.Option(
        "--set-output", metavar="JSON_OR_@FILE", help="Output of that task, which is not performed; @- is stdin."
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="TEXT_OR_@FILE", help="Replays: body instead of the stored one; @- is stdin."),
]
ContentType = Annotated[str | None, typer.Option("--content-type", metavar="TYPE", help="Media type of --data.")]
Revision = Annotated[
    ReplayRevision, typer.Option(help="Replays: on the revision that was executed, or on the flow's latest one.")
]
Latest = Annotated[bool, typer.Option("--latest", help="The same as --revision latest.")]
Again = Annotated[bool, typer.Option("--again", help="Replays: also of those replayed already, or marked as resolved.")]


def read_replay_options(
    *,
    start: ReplayStart,
    from_failed: bool,
    from_task: str,
    set_output: str | None,
    data: str | None,
    content_type: str | None,
    revision: ReplayRevision,
    latest: bool,
) -> ReplayOptions:
    """Return how executions are replayed.

    Raises:
        typer.BadParameter: options do not go together, or a file can't be read.
    """
    from cli.exec_input import read_option_content

    failed = from_failed or start is ReplayStart.FAILED
    if from_task and failed:
        raise typer.BadParameter("give one of --from failed and --from-task")
    if set_output is not None and not from_task:
        raise typer.BadParameter("--set-output requires --from-task")
    if data is not None and (failed or from_task):
        raise typer.BadParameter("--data replaces what all tasks have seen: it needs a replay from the start")
    if content_type is not None and data is None:
        raise typer.BadParameter("--content-type requires --data")
    return ReplayOptions(
        latest=latest or revision is ReplayRevision.LATEST,
        from_failed=failed,
        from_task=from_task,
        output=None if set_output is None else read_option_content("--set-output", set_output),
        body=None if data is None else read_option_content("--data", data),
        content_type=content_type,
    )
