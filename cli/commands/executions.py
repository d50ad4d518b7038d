"""`flowhook executions`: shows, awaits, replays, resolves, cancels, suspends, resumes, retries and deletes them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import finding
from cli.commands.replay import replay
from cli.confirmation import Yes, confirm
from cli.options import ByJob, DataDir, Json, Router
from cli.outcome import NOT_ENDED
from flowhook.errors import ConflictError, NotFoundError, UnavailableError
from flowhook.model import Execution, Status, WorkflowError

if TYPE_CHECKING:
    from flowhook.model.executions import DeletedExecutions

app = typer.Typer(
    help="Look at executions, wait for them; replay, resolve, cancel, suspend, resume, retry and delete them.",
    no_args_is_help=True,
)

ExecutionId = Annotated[str, typer.Argument(metavar="ID", help="ID of the execution: evt_…")]
Flow = Annotated[str, typer.Option("--flow", metavar="ID", help="Only those of this flow.")]
Statuses = Annotated[
    list[Status] | None,
    typer.Option("--status", help="Only those in this status; may be given several times.", case_sensitive=False),
]


EXIT_CODES: Final[Mapping[Status, int]] = {Status.COMPLETED: 0, Status.FAULTED: 3, Status.CANCELLED: 4}
"""Exit codes of `wait`; 1 and 2 mean that it could not look."""
EXIT_NOT_ENDED: Final = 5

COLUMNS = ("EXECUTION", "FLOW", "STATUS", "RECEIVED", "ENDED", "RUNNER ATTEMPTS", "REPLAY", "ERROR")


@app.command("list")
def _list(
    *,
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
    jq: finding.Jq = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number.")] = 50,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """List executions, newest first. All conditions must hold."""
    from cli.client_factory import client_for, client_settings, require_flow
    from cli.output import execution_as_json, print_json, print_table

    if unresolved and status:
        raise typer.BadParameter("give one of --unresolved and --status")
    where = finding.conditions(
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
    )
    settings = client_settings(router, data_dir)
    with client_for(settings) as client:
        if jq:
            listed = iter(finding.search_events(settings, where, jq, limit))
        else:
            listed = client.executions.list(where=where, limit=limit)
        found = require_flow(client, flow, listed)
        if json:
            for execution in found:
                print_json(execution_as_json(execution))
            return
        print_table(COLUMNS, map(row, found), empty="no executions")


@app.command("get")
def _get(
    *,
    execution_id: ExecutionId,
    raw: Annotated[bool, typer.Option("--raw", help="Print the body of the request, byte for byte.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Show an execution with its request, its tasks and its output."""
    from cli.attempts import COLUMNS as ATTEMPT_COLUMNS
    from cli.attempts import attempt_rows
    from cli.client_factory import open_client
    from cli.history import COLUMNS as TASK_COLUMNS
    from cli.history import history_as_json, history_rows
    from cli.links import link_rows, links_as_json
    from cli.output import detail_as_json, print_fields, print_json, print_table

    if raw and json:
        raise typer.BadParameter("give one of --raw and --json")
    with open_client(router, data_dir) as client:
        if raw:
            for piece in client.executions.body(execution_id):
                sys.stdout.buffer.write(piece)
            return
        detail = client.executions.get(execution_id)
    shown = detail_as_json(detail)
    if json:
        print_json({**shown, "links": links_as_json(detail.links), "history": history_as_json(detail.history)})
        return
    hidden = {"tasks", "attempt_history", "attempts_left_out", *([] if detail.attributes else ["attributes"])}
    print_fields([*((name, value) for name, value in shown.items() if name not in hidden), *link_rows(detail.links)])
    print()
    if detail.attempts:
        print_table(ATTEMPT_COLUMNS, attempt_rows(detail), empty="")
        print()
    print_table(TASK_COLUMNS, history_rows(detail), empty="no task has started, or none is stored")


@app.command("wait")
def _wait(
    *,
    execution_id: ExecutionId,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="How long to wait; default: until it has ended.")
    ] = None,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Wait until an execution has ended, and print its output or its error.

    Exit code: 0 if it completed, 3 if it faulted, 4 if it was cancelled, 5 if it has not ended within --timeout.
    """
    from cli.client_factory import open_client
    from cli.outcome import show_outcome, wait_until_ended

    with open_client(router, data_dir) as client:
        try:
            detail = wait_until_ended(client, execution_id, timeout)
        except UnavailableError as error:
            if error.reason != NOT_ENDED:
                raise
            print(f"flowhook: {error.message}", file=sys.stderr)
            raise typer.Exit(EXIT_NOT_ENDED) from None
    show_outcome(detail, json=json)
    if code := EXIT_CODES[detail.execution.status]:
        raise typer.Exit(code)


app.command("replay")(replay)


@app.command("resolve")
def _resolve(
    *,
    execution_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="IDs of executions.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason why nothing has to be done.")] = "",
    flow: ByJob = "",
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Mark executions that failed as settled: they are no longer listed as unresolved, nor replayed in bulk.

    `flowhook jobs create resolve` does so with all that match.
    """
    from cli.client_factory import open_client

    del flow
    failed = False
    with open_client(router, data_dir) as client:
        for execution_id in execution_ids:
            try:
                execution = client.executions.resolve(execution_id, reason)
            except (ConflictError, NotFoundError) as error:
                failed = True
                print(f"flowhook: {error.message}", file=sys.stderr)
            else:
                _show(execution, json=json, what="resolved")
    if failed:
        raise typer.Exit(1)


@app.command("cancel")
def _cancel(*, execution_id: ExecutionId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Cancel an execution that has not ended."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.executions.cancel(execution_id), json=json)


@app.command("delete")
def _delete(
    *,
    execution_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="IDs of executions.", show_default=False)],
    erase: Annotated[
        bool,
        typer.Option(
            "--erase", help="Erase the event for good: all its executions, what refers to them, and their traces."
        ),
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel those that have not ended before.")] = False,
    yes: Yes = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Delete executions that have ended; with --erase, all that is stored of their events.

    `flowhook jobs create delete` deletes all that match.
    """
    from cli.client_factory import open_client

    what = "Erase the events of" if erase else "Delete"
    confirm(f"{what} {', '.join(execution_ids)}? That can't be undone", yes=yes)
    failed = False
    with open_client(router, data_dir) as client:
        for execution_id in execution_ids:
            try:
                deleted = client.executions.delete(execution_id, erase=erase, cancel=cancel)
            except (ConflictError, NotFoundError) as error:
                failed = True
                print(f"flowhook: {error.message}", file=sys.stderr)
            else:
                _show_deleted(execution_id, deleted, json=json)
    if failed:
        raise typer.Exit(1)


def _show_deleted(execution_id: str, deleted: DeletedExecutions, *, json: bool) -> None:
    from cli.links import links_as_json
    from cli.output import print_json, rfc3339

    if json:
        print_json(
            {
                "id": execution_id,
                "execution_ids": deleted.execution_ids,
                "erased_at": rfc3339(deleted.erase_time_ms),
                "purge_pending": deleted.purge_pending,
                "links": links_as_json(deleted.links),
            }
        )
        return
    others = [each for each in deleted.execution_ids if each != execution_id]
    print(f"{execution_id}: {'deleted' if deleted.erase_time_ms is None else 'erased'}{_with(others)}")
    if deleted.erase_time_ms is None:
        return
    linked = [each.id for each in (*deleted.links.causes, *deleted.links.caused) if each.flow_id]
    if linked:
        more = " and more: see 'executions list --caused-by'" if deleted.links.more_caused else ""
        print(f"  not erased: executions linked with it, which may hold the same data: {', '.join(linked)}{more}")
    if deleted.purge_pending:
        print(
            "  gone from the log, its snapshots and the other routers after the next snapshot, within a minute or two"
        )


def _with(others: Sequence[str]) -> str:
    return f", with {', '.join(others)}" if others else ""


@app.command("suspend")
def _suspend(*, execution_id: ExecutionId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Stop work on an execution until it is resumed."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.executions.suspend(execution_id), json=json)


@app.command("resume")
def _resume(*, execution_id: ExecutionId, json: Json = False, router: Router = None, data_dir: DataDir = None) -> None:
    """Continue a suspended execution."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.executions.resume(execution_id), json=json)


@app.command("retry-now")
def _retry_now(
    *, execution_id: ExecutionId, json: Json = False, router: Router = None, data_dir: DataDir = None
) -> None:
    """Try again at once what failed in an execution that waits for its next try."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        _show(client.executions.retry_now(execution_id), json=json)


def _show(execution: Execution, *, json: bool, what: str = "") -> None:
    from cli.output import execution_as_json, print_json

    if json:
        print_json(execution_as_json(execution))
    else:
        print(f"{execution.id}: {what or execution.status}")


def row(execution: Execution) -> tuple[object, ...]:
    """Return an execution as a row for `COLUMNS`."""
    from cli.output import rfc3339

    return (
        execution.id,
        execution.flow_id,
        str(execution.status),
        rfc3339(execution.receive_time_ms),
        rfc3339(execution.end_time_ms),
        execution.attempts,
        _replay_of(execution),
        _failure(execution),
    )


def _failure(execution: Execution) -> str:
    """Return the error column of a list: the error of an execution, or what is tried again and when."""
    from cli.output import rfc3339

    error, retry = execution.error, execution.retry
    if retry is not None:
        tried = "once" if retry.tries == 1 else f"{retry.tries} times"
        return f"tried {tried}, next at {rfc3339(retry.next_time_ms)}: {_error_text(retry.error)}"
    return "" if error is None else _error_text(error)


def _error_text(error: WorkflowError) -> str:
    return f"{error.status} {error.title}: {error.detail}"


def _replay_of(execution: Execution) -> str:
    """Return the replay column of a list: the replays of an execution, and its resolution."""
    said = [f"of {execution.replay_of}"] if execution.replay_of else []
    if execution.replayed_by:
        said.append(f"by {execution.replayed_by}")
    if execution.resolution is not None:
        said.append(f"resolved{f': {execution.resolution.reason}' if execution.resolution.reason else ''}")
    return ", ".join(said)
