"""`flowhook jobs`, and the verbs of `flowhook executions` on those that are named, or as a job on all that match.

The router performs a job in the background: it is watched here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from typer import Argument, Option

from cli.execution_tables import COLUMNS as EXECUTION_COLUMNS
from cli.execution_tables import Shown, row
from cli.operation_commands import (
    COMMON,
    YES,
    OperationCall,
    Operator,
    add_command,
    command,
    flag,
    keyword,
    listing,
    open_operator,
    options_of,
    print_items,
    read_options,
    showing,
    usage_errors,
)
from cli.options import confirm
from cli.output import print_fields, print_json, print_table
from cli.setting_names import option_name
from flowhook.errors import ConflictError, NotFoundError, UnavailableError
from flowhook.model.jobs import ItemOutcome, JobAction
from operations import table
from operations.execution_list import ExecutionConditions
from operations.operation import Operation

COLUMNS: Final = ("JOB", "ACTION", "STATE", "CREATED", "DONE", "SKIPPED", "FAILED", "OF", "FLOW", "REASON")
ITEM_COLUMNS: Final = ("NO", "EXECUTION", "OUTCOME", "TIME", "REPLAY", "REASON")
SAMPLE_COLUMNS: Final = ("EXECUTION", "REVISION", "TAKEN OVER", "RUN AGAIN", "NOT REPLAYED")
POLL_SECONDS: Final = 0.5  # between two looks at the progress of a job
# exit code when an execution that is named was refused, or a job that was waited for did not do all of its work
FAILED: Final = 1
MAX_NAMED: Final = 5  # tasks that a cell names at most
_ENDED: Final = ("completed", "aborted")
CONDITIONS: Final = options_of(ExecutionConditions)
# options of a verb that go with conditions
JOB_OPTIONS: Final = (
    flag("dry_run", "Print what would be done, and to which; change nothing."),
    flag("wait", "Of a job: print the progress until it ends."),
)


@dataclass(frozen=True, slots=True)
class Verb:
    """An operation on executions that jobs perform, too."""

    action: JobAction  # that of the jobs
    operation: Operation[Any]  # the operation on one execution
    # performs it on one execution, given the options, and prints the result
    one: Callable[[Operator, str, Mapping[str, Any]], None]
    name: str = ""  # of the command; empty: that of the action
    of_ids: tuple[str, ...] = ()  # options that go with IDs only, or (`dry_run`) with IDs, too
    # called before a job is created or previewed; may change its options
    prepare: Callable[[Operator, dict[str, Any]], None] = lambda _operator, _given: None
    # asked on a terminal first, of IDs with the options; then a job asks, too
    question: Callable[[Sequence[str], Mapping[str, Any]], str] | None = None

    def add_to(self, app: typer.Typer, text: str) -> None:
        wanted = {"rate", "reason", *(("again",) if self.action is JobAction.REPLAY else ())}
        about = "IDs of executions; without them, conditions say which."
        ids = Annotated[list[str] | None, Argument(metavar="ID…", help=about, show_default=False)]
        parameters = [
            keyword("execution_ids", ids, None),
            *options_of(self.operation.model, leave_out=("execution_id", "reason", "unless_replayed")),
            *CONDITIONS,
            *(each for each in options_of(table.CREATE_JOB.model) if each.name in wanted),
            *JOB_OPTIONS,
            *([] if self.question is None else [YES]),
            *COMMON,
        ]
        add_command(app, self.name or self.action.value, self.run, parameters, text)

    def run(self, *, execution_ids: list[str] | None, **given: Any) -> None:
        """Perform the action on executions by their IDs, or create a job for those that meet conditions."""
        if bool(execution_ids) is any(given[each.name] not in (None, False) for each in CONDITIONS):
            raise typer.BadParameter("give IDs of executions, or conditions such as --flow ID --status faulted")
        of_jobs = ("rate", *(each.name for each in JOB_OPTIONS))
        one, other = (of_jobs, self.of_ids) if execution_ids else (self.of_ids, of_jobs)
        for name in (each for each in one if each not in other):
            if given[name]:
                goes = "conditions, not with IDs" if execution_ids else "IDs, not with conditions"
                raise typer.BadParameter(f"{option_name(name)} goes with {goes}")
        with open_operator(given["router"], given["data_dir"]) as operator, usage_errors(given):
            if execution_ids:
                self._each(operator, execution_ids, given)
            else:
                self.prepare(operator, given)
                create_job(operator, self.action, given, asks=self.question is not None)

    def _each(self, operator: Operator, execution_ids: Sequence[str], given: Mapping[str, Any]) -> None:
        if self.question is not None:
            confirm(self.question(execution_ids, given), yes=given["yes"])
        failed = False
        for execution_id in execution_ids:
            try:
                self.one(operator, execution_id, given)
            except (ConflictError, NotFoundError) as error:
                failed = True
                print(f"flowhook: {error.message}", file=sys.stderr)
        if failed:
            raise typer.Exit(FAILED)


def create_job(operator: Operator, action: JobAction, given: Mapping[str, Any], *, asks: bool) -> None:
    """Create a job, or say what it would do; wait for its end if that is wanted."""
    if given["dry_run"]:
        preview_job(operator, action, given)
        return
    if asks:

        def question() -> str:
            found = preview_of(operator, action, given)
            count = f"{'more than ' if found['more'] else ''}{found['count']:,}"
            executions = "execution" if found["count"] == 1 else "executions"
            return f"{action.capitalize()} {count} {executions}, with all that is stored of them?"

        confirm(question, yes=given["yes"])
    job = operator.shown(table.CREATE_JOB, read_options(table.CREATE_JOB, given, action=action))
    if given["wait"]:
        job = follow(operator, job)
    if given["json"]:
        print_json(job)
    elif not given["wait"]:
        print(f"{job['id']}: created; `flowhook jobs get {job['id']}` shows its progress")
    if given["wait"] and (job["failed"] or job["state"] != "completed"):
        raise typer.Exit(FAILED)


def preview_job(operator: Operator, action: JobAction, given: Mapping[str, Any]) -> None:
    preview = preview_of(operator, action, given)
    if given["json"]:
        print_json(preview)
        return
    count = f"{'more than ' if preview['more'] else ''}{preview['count']} match"
    print(f"{count}; the oldest are:" if preview["count"] else count)
    if preview["sample"]:
        print_table(EXECUTION_COLUMNS, map(row, preview["sample"]), empty="")
    if preview["replays"]:
        print(f"\nreplayed {preview['words']}:")
        print_table(SAMPLE_COLUMNS, sampled_rows(preview), empty="")


def preview_of(operator: Operator, action: JobAction, given: Mapping[str, Any]) -> Any:
    return operator.shown(table.PREVIEW_JOB, read_options(table.PREVIEW_JOB, given, action=action))


def sampled_rows(preview: Shown) -> Iterator[tuple[object, ...]]:
    for execution, sampled in zip(preview["sample"], preview["replays"], strict=True):
        found = sampled["preview"]
        if found is None:
            yield execution["id"], None, "", "", f"{sampled['reason']}: {sampled['message']}"
        else:
            yield execution["id"], found["revision"], _named(found["taken_over"]), _named(found["again"]), ""


def _named(tasks: list[Shown]) -> str:
    names = [each["task"] for each in tasks[:MAX_NAMED]]
    return ", ".join([*names, "…"] if len(tasks) > MAX_NAMED else names)


def job_row(job: Shown) -> tuple[object, ...]:
    return (
        *(job[name] for name in ("id", "action", "state", "created_at", "done", "skipped", "failed")),
        _expected(job),
        job["filter"].get("flow"),
        job["reason"],
    )


def item_row(item: Shown) -> tuple[object, ...]:
    reason = f"{item['reason']}: {item['message']}" if item["reason"] else ""
    replay = " ".join(filter(None, (item["new_execution"], item["new_execution_status"])))
    return item["number"], item["execution"], item["outcome"], item["time"], replay, reason


def progress(job: Shown) -> str:
    line = f"{job['id']}: {job['state']}, {_finished(job)} of {_expected(job)}"
    done = "started" if job["action"] == JobAction.REPLAY else "done"
    counts = f"{job['done']} {done}{_ends(job['replay_ends'])}, {job['skipped']} skipped, {job['failed']} failed"
    delay = f" ({job['delay_reason']})" if job["delay_reason"] else ""
    return f"{line}: {counts}{delay}"


def _finished(job: Shown) -> int:
    return int(job["done"] + job["skipped"] + job["failed"])


def _expected(job: Shown) -> str:
    if job["state"] == "completed":
        return str(_finished(job))
    return "more than 10000" if job["expected"] is None else str(max(job["expected"], _finished(job)))


def _ends(ends: Shown | None) -> str:
    """Return what became of replays, in brackets; empty: none was started."""
    words = {"unended": "not ended", "unknown": "not known"}
    found = [f"{count} {words.get(name, name)}" for name, count in (ends or {}).items() if count]
    return f" ({', '.join(found)})" if found else ""


def follow(operator: Operator, job: Shown) -> Shown:
    """Print the progress of a job to stderr whenever it changes, until it ends or is paused; return it then.

    Waits while the router is unavailable.
    """
    shown, line = "", progress(job)
    while True:
        if line != shown:
            print(line, file=sys.stderr)
            shown = line
        if job["state"] in (*_ENDED, "paused"):
            return job
        time.sleep(POLL_SECONDS)
        try:
            job = operator.shown(table.GET_JOB, job_id=job["id"])
        except UnavailableError as error:
            line = f"flowhook: {error.message}; trying again"
        else:
            line = progress(job)


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
