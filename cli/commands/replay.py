"""`flowhook executions replay`: runs an execution again, as it was or with changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import replay_options as options
from cli.options import ByJob, DataDir, Json, Router

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.model.replays import ReplayOptions


def replay(
    *,
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="ID of the execution.", show_default=False)],
    start: options.Start = options.ReplayStart.AUTO,
    from_failed: options.FromFailed = False,
    from_task: options.FromTask = "",
    set_output: options.SetOutput = None,
    data: options.Data = None,
    content_type: options.ContentType = None,
    revision: options.Revision = None,
    latest: options.Latest = False,
    again: options.Again = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be replayed, and which tasks run again; start nothing.")
    ] = False,
    flow: ByJob = "",
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Run the stored event of an execution again. `flowhook jobs create replay` does so with all that match."""
    from cli.client_factory import open_client

    del flow
    chosen = options.read_replay_options(
        start=start,
        from_failed=from_failed,
        from_task=from_task,
        set_output=set_output,
        data=data,
        content_type=content_type,
        revision=revision,
        latest=latest,
    )
    with open_client(router, data_dir) as client:
        if revision is None and not latest:
            chosen = _offer_newer(client, execution_id, chosen)
        if dry_run:
            _preview(client, execution_id, chosen, json=json)
        else:
            _start(client, execution_id, chosen, again=again, json=json)


def _offer_newer(client: Client, execution_id: str, chosen: ReplayOptions) -> ReplayOptions:
    detail = client.executions.get(execution_id, max_body_bytes=0)
    if detail.execution.status.ended and detail.latest_revision > detail.execution.flow_revision:
        return options.with_newer_revision(chosen, detail.latest_revision, execution_id)
    return chosen


def _start(client: Client, execution_id: str, chosen: ReplayOptions, *, again: bool, json: bool) -> None:
    from cli.output import execution_as_json, print_json
    from flowhook.errors import ConflictError

    try:
        started = client.executions.replay(execution_id, chosen, unless_replayed=not again)
    except ConflictError as error:
        if error.reason not in ("EXECUTION_REPLAYED", "EXECUTION_RESOLVED"):
            raise
        raise ConflictError(f"{error.message}; --again replays it all the same", reason=error.reason) from None
    if json:
        print_json(execution_as_json(started))
    else:
        print(f"{execution_id}: replayed as {started.id}")


def _preview(client: Client, execution_id: str, chosen: ReplayOptions, *, json: bool) -> None:
    from cli.output import execution_as_json, print_json, print_table, printable
    from cli.replay_output import preview_as_json, preview_rows
    from flowhook.errors import ConflictError

    execution = client.executions.get(execution_id, max_body_bytes=0).execution
    if not execution.status.ended:
        raise ConflictError(f"{execution_id} has not ended: {execution.status}", reason="EXECUTION_NOT_ENDED")
    preview = client.executions.preview_replay(execution_id, chosen)
    if json:
        print_json({**execution_as_json(execution), "replay": preview_as_json(preview)})
        return
    error = "" if execution.error is None else f", {execution.error.status} {execution.error.title}"
    print(printable(f"{execution.id}: {execution.status}{error}; would be replayed"))
    keys = "with the same idempotency keys" if preview.keeps_idempotency_keys else "with new idempotency keys"
    print(f"on revision {preview.flow_revision}, {keys}")
    print_table(("REPLAY", "TASK", "KIND"), preview_rows(preview), empty="no task of it is known")
