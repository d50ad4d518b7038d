"""`flowhook executions`, `diff`, `tail`: finds, shows, awaits, compares executions; performs verbs on them.

A verb works on executions that are named, or as a job on all that meet conditions.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer import Option

from cli.commands.jobs import Verb, preview_of
from cli.execution_tables import COLUMNS, NOT_ENDED, Shown, print_detail, row, show_outcome, wait_until_ended
from cli.failures import EXIT_INTERRUPTED
from cli.operation_commands import (
    OperationCall,
    Operator,
    command,
    flag,
    keyword,
    listing,
    one_of,
    read_options,
    showing,
    shown,
)
from cli.options import DataDir, Json, Router
from cli.output import print_json, print_result, print_table, printable
from flowhook import limits
from flowhook.errors import ConflictError, NotFoundError, UnavailableError
from flowhook.model import Status
from flowhook.model.jobs import JobAction
from flowhook.retrying import PROCESS
from operations import table
from operations.operation import Operation

if TYPE_CHECKING:
    from flowhook.client import ExecutionChange

executions = typer.Typer(
    help="Look at executions, wait for them; replay, resolve, cancel, suspend, resume, retry and delete them.",
    no_args_is_help=True,
)
# exit codes of `wait`; 1 and 2 mean that it could not look
EXIT_CODES: Final[Mapping[str, int]] = {Status.COMPLETED: 0, Status.FAULTED: 3, Status.CANCELLED: 4}
EXIT_NOT_ENDED: Final = 5
TIMEOUT: Final = Annotated[
    float | None, Option(metavar="SECONDS", min=0.0, help="How long to wait; default: until it has ended.")
]


def _report_scan(pages: Sequence[Any]) -> None:
    """Say on stderr what a search with jq looked at."""
    scans = [page.scan for page in pages if page.scan is not None]
    if not scans:
        return
    note = f"{scans[-1].scanned} scanned"
    if left_out := sum(scan.left_out for scan in scans):
        note += f", {left_out} with large events not looked into"
    if failures := sum(scan.failures for scan in scans):
        first = next(scan.failure for scan in scans if scan.failures)
        note += f"; the condition failed on {failures}, first with: {first}"
    print(f"flowhook: {note}", file=sys.stderr)


listing(
    executions,
    "list",
    table.LIST_EXECUTIONS,
    COLUMNS,
    row,
    text="List executions, newest first. All conditions must hold.",
    empty="no executions",
    limit=50,
    after=_report_scan,
)


@command(
    executions,
    "get",
    table.GET_EXECUTION,
    check=one_of("raw", "json"),
    leave_out=("max_body",),
    more=[flag("raw", "Print the body of the request, byte for byte.")],
)
def _get(call: OperationCall) -> None:
    """Show an execution with its request, its tasks and its output."""
    if not call.options["raw"]:
        wanted = call.parameters.model_copy(update={"max_body": limits.INLINE_BODY_BYTES})
        showing(print_detail)(replace(call, parameters=wanted))
        return
    for chunk in call.operator.chunks(table.READ_BODY, execution_id=call.parameters.execution_id):
        sys.stdout.buffer.write(chunk)


@command(executions, "wait", table.GET_EXECUTION, leave_out=("max_body",), more=[keyword("timeout", TIMEOUT, None)])
def _wait(call: OperationCall) -> None:
    """Wait until an execution has ended, and print its output or its error.

    Exit code: 0 if it completed, 3 if it faulted, 4 if it was cancelled, 5 if it has not ended within --timeout.
    """
    try:
        detail = wait_until_ended(call.operator.client, call.parameters.execution_id, call.options["timeout"])
    except UnavailableError as error:
        if error.reason != NOT_ENDED:
            raise
        print(f"flowhook: {error.message}", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_ENDED) from None
    show_outcome(detail, json=call.json)
    if code := EXIT_CODES[detail.execution.status]:
        raise typer.Exit(code)


def _one(operation: Operation[Any], word: str = "") -> Any:
    """Return what performs an operation on one execution and prints its status, or the word."""

    def one(operator: Operator, execution_id: str, given: Mapping[str, Any]) -> None:
        result = operator.perform(operation, read_options(operation, {**given, "execution_id": execution_id}))
        print_result(result, f"{execution_id}: {word or result.status}", json=given["json"])

    return one


def _delete(operator: Operator, execution_id: str, given: Mapping[str, Any]) -> None:
    options = read_options(table.DELETE_EXECUTION, {**given, "execution_id": execution_id})
    deleted = operator.perform(table.DELETE_EXECUTION, options)
    if given["json"]:
        print_json(deleted)
        return
    others = [each for each in deleted.execution_ids if each != execution_id]
    also = f", with {', '.join(others)}" if others else ""
    print(f"{execution_id}: {'deleted' if deleted.erased_at is None else 'erased'}{also}")
    if deleted.erased_at is None:
        return
    linked = [each.id for each in (*deleted.links.causes, *deleted.links.caused) if each.flow_id]
    if linked:
        more = " and more: see 'executions list --caused-by'" if deleted.links.more_caused else ""
        print(f"  not erased: executions linked with it, which may hold the same data: {', '.join(linked)}{more}")
    if deleted.purge_pending:
        print(
            "  gone from the log, its snapshots and the other routers after the next snapshot, within a minute or two"
        )


def _replay(operator: Operator, execution_id: str, given: Mapping[str, Any]) -> None:
    detail = operator.perform(table.GET_EXECUTION, execution_id=execution_id)
    newer = detail.latest_revision if detail.status.ended and detail.latest_revision > detail.flow_revision else 0
    chosen = {**given, "execution_id": execution_id}
    chosen["revision"] = _revision(given, newer, execution_id)
    if given["dry_run"]:
        if not detail.status.ended:
            raise ConflictError(f"{execution_id} has not ended: {detail.status}", reason="EXECUTION_NOT_ENDED")
        preview = operator.perform(table.PREVIEW_REPLAY, read_options(table.PREVIEW_REPLAY, chosen))
        if given["json"]:
            print_json(preview)
        else:
            _print_preview(shown(detail), shown(preview))
        return
    options = read_options(table.REPLAY_EXECUTION, chosen, unless_replayed=not given["again"])
    try:
        started = operator.perform(table.REPLAY_EXECUTION, options)
    except ConflictError as error:
        if error.reason not in ("EXECUTION_REPLAYED", "EXECUTION_RESOLVED"):
            raise
        raise ConflictError(f"{error.message}; --again replays it all the same", reason=error.reason) from None
    print_result(started, f"{execution_id}: replayed as {started.id}", json=given["json"])


def _print_preview(execution: Shown, preview: Shown) -> None:
    error = "" if execution["error"] is None else f", {execution['error']['status']} {execution['error']['title']}"
    print(printable(f"{execution['id']}: {execution['status']}{error}; would be replayed"))
    keys = "with the same idempotency keys" if preview["keeps_idempotency_keys"] else "with new idempotency keys"
    print(f"on revision {preview['revision']}, {keys}")
    rows = [
        (what, each["task"], each["kind"])
        for what, tasks in (("taken over", preview["taken_over"]), ("runs again", preview["again"]))
        for each in tasks
    ]
    print_table(("REPLAY", "TASK", "KIND"), rows, empty="no task of it is known")


def _revision(given: Mapping[str, Any], newer: int, ran: str) -> str | None:
    """Return the revision that a replay runs; if there is a newer one, a terminal is asked, and a script is told.

    `newer`: the latest revision, if it is newer than the one that `ran`, an execution's ID, ran; else 0.
    """
    chosen: str | None = given["revision"]
    if chosen is not None or not newer:
        return chosen
    if sys.stdin.isatty() and sys.stderr.isatty():
        question = f"Revision {newer} is newer than the one that {ran} ran. Replay on revision {newer}?"
        return "latest" if typer.confirm(question, default=True, err=True) else None
    note = f"flowhook: revision {newer} is newer than the one that {ran} ran; --revision latest replays on it"
    print(note, file=sys.stderr)
    return None


def _choose_revision(operator: Operator, given: dict[str, Any]) -> None:
    """Offer the latest revision if one of the oldest executions that match ran an older one."""
    if given["revision"] is not None:
        return
    preview = preview_of(operator, JobAction.REPLAY, given)
    for execution, sampled in zip(preview["sample"], preview["replays"], strict=True):
        newer = 0 if sampled["preview"] is None else sampled["preview"]["latest_revision"]
        if newer > execution["revision"]:
            given["revision"] = _revision(given, newer, execution["id"])
            return


Verb(JobAction.REPLAY, table.REPLAY_EXECUTION, _replay, of_ids=("dry_run",), prepare=_choose_revision).add_to(
    executions, "Run the stored events of executions again."
)
Verb(JobAction.RESOLVE, table.RESOLVE_EXECUTION, _one(table.RESOLVE_EXECUTION, "resolved")).add_to(
    executions, "Mark failed executions as resolved: they are not listed as unresolved any more, nor replayed in bulk."
)
for _action, _operation, _text in (
    (JobAction.CANCEL, table.CANCEL_EXECUTION, "Cancel executions that have not ended."),
    (JobAction.SUSPEND, table.SUSPEND_EXECUTION, "Stop work on executions until they are resumed."),
    (JobAction.RESUME, table.RESUME_EXECUTION, "Continue suspended executions."),
):
    Verb(_action, _operation, _one(_operation)).add_to(executions, _text)
Verb(
    JobAction.DELETE,
    table.DELETE_EXECUTION,
    _delete,
    of_ids=("erase", "cancel"),
    question=lambda ids, given: (
        f"{'Erase the events of' if given['erase'] else 'Delete'} {', '.join(ids)}? That can't be undone"
    ),
).add_to(
    executions,
    "Delete executions that have ended; with --erase, all that is stored of the events of those that are named.",
)
Verb(JobAction.RETRY, table.RETRY_EXECUTION_NOW, _one(table.RETRY_EXECUTION_NOW), name="retry-now").add_to(
    executions, "Try again at once what failed in executions that wait for their next try."
)


DIFF_COLUMNS = ("WHAT", "NAME", "FIRST", "SECOND")


def _print_diff(found: Shown) -> None:
    print_table(DIFF_COLUMNS, diff_rows(found["diff"]), empty="no differences")
    for name in ("body", "output"):
        if lines := found["diff"][name]["lines"]:
            print(f"\n{name}:", *map(printable, lines), sep="\n")


def diff_rows(found: Shown) -> Iterator[tuple[object, ...]]:
    yield from _different_fields("summary", found["summary"])
    if found["diverges_at"] is not None and found["diverges_at"] < len(found["tasks"]):
        pair = found["tasks"][found["diverges_at"]]
        yield ("task", f"run {pair['index'] + 1}, the first that differs", _task(pair["first"]), _task(pair["second"]))
    yield from _different_fields("error", found["error"])
    yield from _different_content("output", found["output"])
    for what, name in (("request", "request"), ("query", "query"), ("header", "headers")):
        yield from _different_fields(what, found[name])
    yield from _different_content("body", found["body"])


def _different_fields(what: str, differences: Iterable[Shown]) -> Iterator[tuple[object, ...]]:
    for each in differences:
        yield (what, each["name"], each["first"], each["second"])


def _different_content(what: str, found: Shown) -> Iterator[tuple[object, ...]]:
    if found["format"] == "equal":
        return
    for each in found["differences"]:
        yield (what, each["path"] or "/", each["first"], each["second"])
    if not found["differences"]:
        name = {"text": "text", "too_large": "too large to compare"}.get(found["format"], "")
        if found["offset"] is not None:
            name = f"from byte {found['offset']} on"
        sizes = f"{found['first_size']} bytes", f"{found['second_size']} bytes"
        yield (what, name or "written differently", *sizes)
    if found["cut"]:
        yield (what, "… and more", "", "")


def _task(side: Shown | None) -> str:
    return "" if side is None else f"{side['task']} {side['state']} {side['detail']}".rstrip()


def register(app: typer.Typer) -> None:
    text = "Compare two executions: their requests, their tasks, and their results."
    command(app, "diff", table.DIFF_EXECUTIONS, text, arguments={"execution_id": "A", "with_": "B"})(
        showing(_print_diff)
    )


def tail(
    *,
    flow: Annotated[str, Option(metavar="ID", help="Only those of this flow.")] = "",
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Print executions whenever their status changes, until Ctrl-C; those of a flow also if it is applied later."""
    from cli.client_factory import open_client

    signal.signal(signal.SIGINT, _end)
    with open_client(router, data_dir) as client:
        try:
            if flow and not any(client.executions.list(flow_id=flow, limit=1)):  # those of a deleted flow are there
                client.flows.get(flow)
        except NotFoundError as error:
            print(f"flowhook: {error.message} yet; waiting for it", file=sys.stderr, flush=True)
        pauses, established = PROCESS.pauses(), False
        while True:
            try:
                for change in client.executions.watch(flow_id=flow):
                    pauses, established = PROCESS.pauses(), True
                    if change is None:
                        print("watching; Ctrl-C ends", file=sys.stderr, flush=True)
                    else:
                        _show_change(change, json=json)
            except UnavailableError as error:
                if not established:
                    raise
                print(f"flowhook: {error.message}; trying again", file=sys.stderr, flush=True)
            time.sleep(next(pauses))


def _end(_number: int, _frame: object) -> None:
    """Exit at once: a KeyboardInterrupt raised in a callback of gRPC would be printed and otherwise ignored."""
    os._exit(EXIT_INTERRUPTED)


def _show_change(change: ExecutionChange, *, json: bool) -> None:
    from cli.execution_tables import failure
    from cli.operation_commands import shown
    from cli.output import print_json, printable

    if change.missed:
        print(f"flowhook: {change.missed} changes missed", file=sys.stderr, flush=True)
    execution = change.execution
    if json:
        print_json(execution)
        return
    told = shown(execution)
    cause = f"  {failed}" if (failed := failure(told)) else ""
    when = told["ended_at"] or told["received_at"]
    print(printable(f"{when}  {told['id']}  {told['flow']}  {told['status']}{cause}"), flush=True)
