"""Options of commands that replay executions: one, or those of a job."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from flowhook.model.replays import ReplayOptions


class ReplayStart(StrEnum):
    """Starting point of a replay; `auto`: the failed task of an execution that failed, else the start."""

    AUTO = "auto"
    START = "start"
    FAILED = "failed"


class ReplayRevision(StrEnum):
    """Flow revision that a replay runs."""

    PINNED = "pinned"
    LATEST = "latest"


Start = Annotated[
    ReplayStart,
    typer.Option(
        "--from",
        help="Replays: from the start, or from the failed task with the results before it. `auto`: from the failed"
        " task of executions that failed, if anything of it would run anew; else from the start.",
    ),
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
    ReplayRevision | None,
    typer.Option(
        help="Replays: on the revision that was executed, or on the flow's latest one. Without it a terminal asks if"
        " there is a newer one; else it is the one that was executed.",
        show_default=False,
    ),
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
    revision: ReplayRevision | None,
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
        auto=start is ReplayStart.AUTO and not (failed or from_task or data is not None),
    )


def with_newer_revision(options: ReplayOptions, newer: int, ran: str) -> ReplayOptions:
    """Offer a newer revision than the one that would run: ask on a terminal, else say so on stderr.

    Args:
        options: what was chosen, without a revision.
        newer: the latest revision.
        ran: what ran an older one, as a subject of a sentence that ends with "ran".
    """
    if sys.stdin.isatty() and sys.stderr.isatty():
        question = f"Revision {newer} is newer than the one that {ran} ran. Replay on revision {newer}?"
        return options._replace(latest=typer.confirm(question, default=True, err=True))
    note = f"flowhook: revision {newer} is newer than the one that {ran} ran; --revision latest replays on it"
    print(note, file=sys.stderr)
    return options
