"""`flowhook jobs`: one action on all executions that match, performed by the router in the background."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import finding, replay_options
from cli.commands.executions import Flow, Statuses
from cli.confirmation import Yes, confirm
from cli.options import DataDir, Json, Router
from flowhook.model.jobs import DEFAULT_RATE, MAX_RATE, ItemOutcome, JobAction, JobSpec, JobState
from flowhook.model.replays import AS_RECORDED, AUTO

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.model.jobs import Job

app = typer.Typer(
    help="Do one thing with all executions that match, in the background; watch, pause and abort that.",
    no_args_is_help=True,
)

JobId = Annotated[str, typer.Argument(metavar="ID", help="ID of the job: job_…")]

FAILED: Final = 1
"""Exit code of `--wait` when the job was aborted, or failed on an execution."""


@app.command("create")
def _create(
    *,
    action: Annotated[JobAction, typer.Argument(help="What is done with each execution.", case_sensitive=False)],
    flow: Flow = "",
    status: Statuses = None,
    unresolved: Annotated[
        bool,
        typer.Option(
            "--unresolved",
            help="Only faulted ones without a running or completed replay, that are not marked as resolved.",
        ),
    ] = False,
    search: finding.Search = None,
    since: finding.Since = "",
    until: finding.Until = "",
    error: finding.ErrorType = "",
    task: finding.Task = "",
    attempts: finding.Attempts = 0,
    caused_by: finding.CausedBy = "",
    start: replay_options.Start = replay_options.ReplayStart.AUTO,
    from_failed: replay_options.FromFailed = False,
    from_task: replay_options.FromTask = "",
    set_output: replay_options.SetOutput = None,
    data: replay_options.Data = None,
    content_type: replay_options.ContentType = None,
    revision: replay_options.Revision = None,
    latest: replay_options.Latest = False,
    again: replay_options.Again = False,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0.001, max=MAX_RATE, help="Maximum number per second.")
    ] = DEFAULT_RATE,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; also the reason of resolutions.")] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print how many match, and what is done with the oldest ones; create nothing."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Print the progress until the job ends.")] = False,
    yes: Yes = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Create a job. At least one condition is required, such as --flow or --status."""
    from cli.client_factory import open_client
    from cli.job_output import follow, job_as_json
    from cli.output import print_json
    from flowhook.model.audit_reason import audit_reason

    replay = replay_options.read_replay_options(
        start=start,
        from_failed=from_failed,
        from_task=from_task,
        set_output=set_output,
        data=data,
        content_type=content_type,
        revision=revision,
        latest=latest,
    )
    spec = JobSpec(
        action=action,
        filter=finding.conditions(
            flow=flow,
            statuses=status or (),
            unresolved=unresolved,
            search=search or (),
            since=since,
            until=until,
            error=error,
            task=task,
            attempts=attempts,
            caused_by=caused_by,
        ),
        replay=AS_RECORDED if action is not JobAction.REPLAY and replay == AUTO else replay,
        again=again,
        rate=rate,
        reason=reason,
    )
    with open_client(router, data_dir) as client:
        if action is JobAction.REPLAY and revision is None and not latest:
            spec = _offer_newer(client, spec)
        if dry_run:
            _preview(client, spec, json=json)
            return
        if action is JobAction.DELETE:
            confirm(lambda: f"Delete {_count(client, spec)}, with all that is stored of them?", yes=yes)
        with audit_reason(reason):
            job = client.jobs.create(spec)
        if wait:
            job = follow(client, job)
    if json:
        print_json(job_as_json(job))
    elif not wait:
        print(f"{job.id}: created; `flowhook jobs get {job.id}` shows its progress")
    if wait and (job.failed or job.state is not JobState.COMPLETED):
        raise typer.Exit(FAILED)


def _count(client: Client, spec: JobSpec) -> str:
    """Return how many executions match, in words."""
    preview = client.jobs.preview(spec.filter)
    more = "more than " if preview.more else ""
    return f"{more}{preview.count:,} {'execution' if preview.count == 1 else 'executions'}"


@app.command("list")
def _list(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number.")] = 50,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List jobs, newest first."""
    from cli.client_factory import open_client
    from cli.job_output import COLUMNS, job_as_json, job_row
    from cli.output import print_json, print_table

    with open_client(router, data_dir) as client:
        found = list(client.jobs.list(limit=limit))
    if json:
        for job in found:
            print_json(job_as_json(job))
        return
    print_table(COLUMNS, map(job_row, found), empty="no jobs")


@app.command("get")
def _get(
    *,
    job_id: JobId,
    items: Annotated[bool, typer.Option("--items", help="Print the outcome of each execution instead.")] = False,
    outcome: Annotated[
        ItemOutcome | None, typer.Option(help="With --items: only this outcome.", case_sensitive=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print the progress until the job ends.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Show a job and its progress, or the outcomes of its executions."""
    from cli.client_factory import open_client
    from cli.job_output import ITEM_COLUMNS, follow, item_as_json, item_row, job_as_json
    from cli.output import print_fields, print_json, print_table

    if outcome is not None and not items:
        raise typer.BadParameter("--outcome requires --items")
    with open_client(router, data_dir) as client:
        job = client.jobs.get(job_id)
        if wait:
            job = follow(client, job)
        if items:
            found = client.jobs.items(job_id, outcome=outcome)
            if json:
                for item in found:
                    print_json(item_as_json(item))
            else:
                print_table(ITEM_COLUMNS, map(item_row, found), empty="no outcomes")
            return
    if json:
        print_json(job_as_json(job))
    else:
        print_fields(job_as_json(job).items())


@app.command("pause")
def _pause(*, job_id: JobId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Pause a job within a second."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.jobs.pause(job_id), json=json)


@app.command("resume")
def _resume(*, job_id: JobId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Let a paused job continue."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.jobs.resume(job_id), json=json)


@app.command("abort")
def _abort(*, job_id: JobId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """End a job within a second; what it did stays done."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.jobs.abort(job_id), json=json)


def _offer_newer(client: Client, spec: JobSpec) -> JobSpec:
    """Offer the latest revision if one of the oldest executions that match ran an older one."""
    preview = client.jobs.preview(spec.filter, replay=spec.replay, again=spec.again)
    for execution, sampled in zip(preview.sample, preview.replays, strict=True):
        if sampled.preview is not None and sampled.preview.latest_revision > execution.flow_revision:
            newer = sampled.preview.latest_revision
            return replace(spec, replay=replay_options.with_newer_revision(spec.replay, newer, execution.id))
    return spec


def _preview(client: Client, spec: JobSpec, *, json: bool) -> None:
    from cli.commands.executions import COLUMNS, row
    from cli.output import execution_as_json, print_json, print_table
    from cli.replay_output import SAMPLE_COLUMNS, sampled_as_json, sampled_rows

    replay = spec.replay if spec.action is JobAction.REPLAY else None
    preview = client.jobs.preview(spec.filter, replay=replay, again=spec.again)
    if json:
        sample = [execution_as_json(execution) for execution in preview.sample]
        shown = {"count": preview.count, "more": preview.more, "sample": sample}
        print_json(shown if replay is None else {**shown, "replays": list(map(sampled_as_json, preview.replays))})
        return
    count = f"{'more than ' if preview.more else ''}{preview.count} match"
    print(f"{count}; the oldest are:" if preview.count else count)
    if preview.sample:
        print_table(COLUMNS, map(row, preview.sample), empty="")
    if preview.replays and replay is not None:
        print(f"\nreplayed {replay.in_words()}:")
        print_table(SAMPLE_COLUMNS, sampled_rows(preview.sample, preview.replays), empty="")


def _show(job: Job, *, json: bool) -> None:
    from cli.job_output import job_as_json, progress
    from cli.output import print_json

    if json:
        print_json(job_as_json(job))
    else:
        print(progress(job))
