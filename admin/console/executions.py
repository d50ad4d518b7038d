"""`/executions`, `/faults`, `/executions/ID` and the pages below it.

Lists, and one execution, in the views compact, timeline, journal, and data before and after each task; and beside
another one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from markupsafe import Markup

from admin.console import timeline
from admin.console.body_view import MAX_SHOWN, body_view
from admin.console.live import LiveStream
from admin.console.page import ConsolePage, FilterForm, query_of, read_live, read_rows
from admin.console.timeline import MAX_BARS, draw_timeline
from flowhook.errors import ExhaustedError, FlowhookError, InternalError, InvalidError, NotFoundError, UnavailableError
from flowhook.model import Execution, Status, to_datetime
from flowhook.model.execution_trace import MAX_BODY_BYTES, MAX_VALUE_BYTES
from flowhook.model.executions import ExecutionCount, LinkedExecution, LinkKind
from flowhook.process.settings import TRACE_ID
from operations.attachment_parts import ListedPart
from operations.execution_list import (
    MAX_LOOKED_AT,
    ExecutionConditions,
    ExecutionList,
    ExecutionPage,
    group_filter,
    pairs_of,
    to_pairs,
)
from operations.executions import ExecutionDetailView, draw_path
from operations.parts import PartList, may_have_parts
from operations.table import (
    COUNT_EXECUTIONS,
    DIFF_EXECUTIONS,
    GET_EXECUTION,
    LIST_EXECUTIONS,
    LIST_FAULTS,
    LIST_PARTS,
    TRACE_EXECUTION,
)

ROWS: Final = 50  # executions on a page at most, live or not
# values of `since` that a click sets, and their names
PERIODS: Final = (("15m", "last 15 min"), ("1h", "last hour"), ("24h", "last day"))
# conditions in the order in which they are shown, and what precedes their values
LABELS: Final = {
    "flow": "flow",
    "status": "",
    "unresolved": "",
    "attribute": "",
    "since": "since",
    "until": "until",
    "error_type": "error",
    "error_task": "task",
    "error_status": "error status",
    "error_title": "error title",
    "min_attempts": "runner attempts ≥",
    "caused_by": "caused by",
    "jq": "jq",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A condition as text, and the query of the page without it."""

    text: str
    removed: str


def condition_pairs(filters: ExecutionList) -> list[tuple[str, str]]:
    return pairs_of({name: value for name in LABELS if (value := getattr(filters, name))})


def chips(filters: ExecutionList) -> list[Chip]:
    pairs = condition_pairs(filters)
    return [
        Chip(_text(name, value), urlencode(pairs[:place] + pairs[place + 1 :]))
        for place, (name, value) in enumerate(pairs)
    ]


def _text(name: str, value: str) -> str:
    if name == "unresolved":
        return name
    if name == "attribute":
        return " = ".join(value.split(":", 1))
    return f"{LABELS[name]} {value}".strip()


class ExecutionsPage(ConsolePage):
    """`/executions`: executions, newest first, with conditions in the URL; live on the first page."""

    filter_form = FilterForm("executions_form.html", "Executions", LIST_EXECUTIONS, {"statuses": list(Status)})
    error_fields: Mapping[str, str] = {"CONDITION_INVALID": "jq", "FILTER_INVALID": "", "PAGE_TOKEN_INVALID": ""}

    async def show(self, *_values: str) -> None:
        """Show a page of the list; a query with empty fields, as a form sends it, is redirected to one without."""
        query = self.query()
        live = read_live(query)
        filters = read_rows(LIST_EXECUTIONS, query, ROWS)
        if any("" in values for values in query.values()):  # a form sends its empty fields, too; links are shared
            conditions = query_of(filters, page_token=filters.page_token, live="" if live else "off")
            self.see_other(f"/executions?{conditions}".rstrip("?"))
            return
        page, total = await asyncio.gather(self.perform(LIST_EXECUTIONS, filters), self._total(filters))
        first = not filters.page_token
        can_live = first and not filters.jq
        self.finish_page(
            "executions.html",
            page=page,
            total=total,
            filters=filters,
            chips=chips(filters),
            periods=[(name, query_of(filters, since=since), since) for since, name in PERIODS],
            statuses=list(Status),
            first=first,
            can_live=can_live,
            live=can_live and live,
            query=query_of(filters),
            older=query_of(filters, page_token=page.next_page_token),
            switched=query_of(filters, live="off" if live else "on"),
            **row_values(filters, page),
        )

    async def _total(self, filters: ExecutionList) -> ExecutionCount | None:
        """Return how many executions meet the conditions; None if that is not known.

        Matches of a condition in jq are not counted; what is stored of executions under way may be older than shown.
        """
        if filters.jq or not all(status.ended or status is Status.SUSPENDED for status in filters.status):
            return None
        conditions = ExecutionConditions(**{name: getattr(filters, name) for name in ExecutionConditions.model_fields})
        total: ExecutionCount = await self.perform(COUNT_EXECUTIONS, conditions)
        return total


class ExecutionStream(LiveStream):
    """`/executions/stream`."""

    operation, rows = LIST_EXECUTIONS, ROWS
    template = "execution_rows.html"

    def conditions(self) -> ExecutionList:
        filters: ExecutionList = super().conditions()
        if filters.jq:
            raise InvalidError("a list with a jq condition does not update by itself", reason="PARAMETER_INVALID")
        return filters

    def values_of(self, conditions: ExecutionList, result: ExecutionPage) -> dict[str, Any]:
        return {"page": result, **row_values(conditions, result)}


def row_values(filters: ExecutionList, page: ExecutionPage) -> dict[str, Any]:
    pairs = condition_pairs(filters)
    flow_only = filters.flow if len(pairs) == 1 and not filters.page_token else ""
    return {"filtered": bool(pairs), "flow_only": flow_only, "complete": not page.next_page_token}


class FaultsPage(ConsolePage):
    """`/faults`: failed executions that were neither replayed nor resolved, in groups."""

    filter_form = FilterForm("faults_form.html", "Faults", LIST_FAULTS)

    async def show(self, *_values: str) -> None:
        parameters = LIST_FAULTS.read_query({}, self.query())
        faults = await self.perform(LIST_FAULTS, parameters)
        groups = [(group, urlencode(to_pairs(group_filter(group)))) for group in faults.groups]
        self.finish_page("faults.html", faults=faults, groups=groups, filters=parameters, most=MAX_LOOKED_AT)


VIEWS: Final = ("compact", "timeline", "journal", "trace")
TRACED: Final = ("timeline", "trace")  # views with the data of tasks
MAX_ENTRIES: Final = 100  # entries of the journal that a page shows; the API has all of them
MAX_ENTRY: Final = 2 * 1024  # characters of the output of such an entry that a page shows
MAX_PARTS: Final = 100  # attachments that a page shows; the API has all of them
MAX_TASKS: Final = 50  # tasks whose data the timeline shows; each has a page of its own, too
# characters of a value that the timeline shows; the page of the task has all that the trace has
MAX_VALUE: Final = 1024
MAX_REQUESTS: Final = 20  # requests that the page of a task shows, the last ones; the API has all of them
MAX_TIMELINE_REQUESTS: Final = 5  # requests of each task that the timeline shows, the last ones
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}")
# errors of a trace, or of attachments, that leave the rest of the page as it is
_LEFT_OUT: Final = (ExhaustedError, InternalError, InvalidError, NotFoundError, UnavailableError)
MAX_CAUSES: Final = 20  # causes that a page shows, the newest ones; the API has all of them
# how another execution caused the one of the page
CAUSES: Final = {
    LinkKind.RUN: "its run task started this one",
    LinkKind.EVENT: "its event started this one",
    LinkKind.LISTEN: "this one received its event",
    LinkKind.ABSORB: "this one runs for its event, too",
    LinkKind.BATCH: "its event is in the batch of this one",
}
# how the execution of the page caused another
CAUSED: Final = {
    LinkKind.RUN: "started by a run task",
    LinkKind.EVENT: "started by an event of this one",
    LinkKind.LISTEN: "received an event of this one",
    LinkKind.ABSORB: "runs for the event of this one, too",
    LinkKind.BATCH: "runs for the batch that the event of this one is in",
}
TAKEN_OVER: Final = "started by the execution that this one replays"
_STARTED: Final = re.compile(rb'\{"execution":"(evt_[0-9a-z]{1,40})"\}')  # result of a `run` task in the journal


class Shown(NamedTuple):
    """What the parameters of the URL ask for."""

    view: str  # one of `VIEWS`
    task: int  # number of a task in the view `trace`; 0: the one that failed, else the first
    whole_body: bool  # whether the data of tasks is computed however large the body is


def read_view(query: Mapping[str, Sequence[str]]) -> Shown:
    """Return what a page shows by its query; raises InvalidError (`PARAMETER_INVALID`) for anything else."""
    for name, values in query.items():
        if name not in ("view", "task", "body"):
            text = f"there is no parameter {name[:100]!r}: write view, task, body"
            raise InvalidError(text, reason="PARAMETER_INVALID")
        if len(values) > 1:
            raise InvalidError(f"{name} may be given once", reason="PARAMETER_INVALID")
    view, task, body = ((query.get(name) or [""])[0] for name in ("view", "task", "body"))
    view = view or VIEWS[0]
    if view not in VIEWS:
        raise InvalidError(f"view: write {', '.join(VIEWS)}", reason="PARAMETER_INVALID")
    if task and (view != "trace" or not _NUMBER.fullmatch(task)):
        raise InvalidError("task: write the number of a task, with view=trace", reason="PARAMETER_INVALID")
    if body and (view not in TRACED or body != "whole"):
        raise InvalidError("body: write whole, with view=timeline or view=trace", reason="PARAMETER_INVALID")
    return Shown(view, int(task or 0), body == "whole")


class ExecutionDetailPage(ConsolePage):
    """`/executions/ID`: one execution."""

    async def show(self, *values: str) -> None:
        shown = read_view(self.query())
        detail: ExecutionDetailView = await self.run(GET_EXECUTION, {"execution_id": values[0]}, {})
        self.finish_page(
            "execution.html",
            detail=detail,
            execution=detail,
            view=shown.view,
            durations=timeline.durations(detail, datetime.now(UTC)),
            trace_url=self.context.trace_url.replace(TRACE_ID, detail.request.trace_id),
            **await self._view(detail, shown),
        )

    async def _view(self, detail: ExecutionDetailView, shown: Shown) -> dict[str, Any]:
        match shown.view:
            case "timeline":
                return _timeline(detail, await self._trace(detail.id, shown))
            case "trace":
                return _task(detail, shown.task, await self._trace(detail.id, shown))
            case "journal":
                return {"max_entries": MAX_ENTRIES, "max_entry": MAX_ENTRY}
        body = await self.first_bytes(detail.id, MAX_SHOWN)
        parts, parts_problem = await self._parts(detail)
        return {
            "body": body_view(body),
            "parts": parts,
            "max_parts": MAX_PARTS,
            "parts_problem": parts_problem,
            "causes": cause_rows(detail),
            "max_causes": MAX_CAUSES,
            "caused": caused_rows(detail),
            "tasks": timeline.shown_tasks(detail, None),
            "picture": await draw_picture(self, detail),
        }

    async def _trace(self, execution_id: str, shown: Shown) -> dict[str, Any]:
        """Return what the templates of views with a trace need: it, or why there is none."""
        trace, problem = None, None
        try:
            limit = {} if shown.whole_body else {"max_body": [str(MAX_BODY_BYTES)]}
            trace = await self.run(TRACE_EXECUTION, {"execution_id": execution_id}, limit)
        except _LEFT_OUT as error:
            problem = error
        return {
            "trace": trace,
            "trace_problem": problem,
            "further": "&body=whole" if shown.whole_body else "",  # end of the URLs of pages with more of it
            "traced": None if trace is None else timeline.TraceValues(trace),
            "moment": to_datetime,
        }

    async def _parts(self, detail: ExecutionDetailView) -> tuple[tuple[ListedPart, ...], str]:
        if not may_have_parts(detail.request.content_type, detail.request.body_size):
            return (), ""
        try:
            found: PartList = await self.run(LIST_PARTS, {"execution_id": detail.id}, {})
        except _LEFT_OUT as error:
            return (), error.message
        return found.parts, ""


def _timeline(detail: ExecutionDetailView, found: dict[str, Any]) -> dict[str, Any]:
    tasks = timeline.shown_tasks(detail, found["trace"])
    page = f"/executions/{quote(detail.id, safe='')}?view=trace{found['further']}&task="
    bars = timeline.timeline_bars(detail, tasks, page)
    return {
        **found,
        "tasks": tasks,
        "max_tasks": MAX_TASKS,
        "max_value": MAX_VALUE,
        "max_requests": MAX_TIMELINE_REQUESTS,
        "waited": timeline.waited_seconds(tasks, detail.ended_at or datetime.now(UTC)),
        "bars_cut": len(bars) > MAX_BARS,
        "timeline": draw_timeline(bars, round(datetime.now(UTC).timestamp() * 1000)),
    }


def _task(detail: ExecutionDetailView, number: int, found: dict[str, Any]) -> dict[str, Any]:
    tasks = timeline.shown_tasks(detail, found["trace"])
    if not number and tasks:
        failed = [task.number for task in tasks if task.failed] if detail.status is Status.FAULTED else []
        number = failed[-1] if failed else tasks[0].number  # the last to begin is the innermost
    position = next((index for index, task in enumerate(tasks) if number == task.number), None)
    if position is None and number:
        raise NotFoundError(f"there is no task {number} in this execution", reason="TASK_NOT_FOUND")
    return {
        **found,
        "tasks": tasks,
        "task": None if position is None else tasks[position],
        "previous": tasks[position - 1] if position else None,
        "following": tasks[position + 1] if position is not None and position + 1 < len(tasks) else None,
        "max_value": MAX_VALUE_BYTES,
        "max_requests": MAX_REQUESTS,
    }


async def draw_picture(page: ConsolePage, detail: ExecutionDetailView) -> Markup:
    """Return the flow with the path of an execution; empty if its revision is not stored any more."""
    async with page.router() as client:
        try:
            picture = await draw_path(client, detail, detail.tasks)
        except NotFoundError:
            return Markup()
    return Markup(picture.svg)  # noqa: S704 - operations.diagram escapes all text


class ExecutionProgress(ConsolePage):
    """Status and tasks of an execution; its page asks for them every 2 s until it has ended, or 10 s while it waits."""

    SUPPORTED_METHODS = ("GET",)

    async def show(self, *values: str) -> None:
        """Respond with both; reload the whole page once its buttons, error or output have changed."""
        seen = self.query().get("seen", [""])[0]
        detail: ExecutionDetailView = await self.run(GET_EXECUTION, {"execution_id": values[0]}, {})
        if detail.status.ended or (detail.status is Status.SUSPENDED) != (seen == Status.SUSPENDED):
            self.set_header("HX-Refresh", "true")
        self.finish_page(
            "execution_progress.html",
            execution=detail,
            path=f"/executions/{quote(detail.id, safe='')}",
            tasks=timeline.shown_tasks(detail, None),
            picture=await draw_picture(self, detail),
        )


class DiffPage(ConsolePage):
    """`/executions/ID/diff?with=ID`: the difference; without `with`, a form that asks for the other execution."""

    error_fields: Mapping[str, str] = {"EXECUTION_NOT_FOUND": "with"}

    async def show(self, *values: str) -> None:
        """Show the differences between two executions or, without `with`, suggest executions to compare with."""
        path, query = {"execution_id": values[0]}, self.query()
        other = query.get("with", [""])[0].strip()
        problem = None
        if other:
            try:
                found = await self.run(DIFF_EXECUTIONS, path, {**query, "with": [other]})
            except FlowhookError as error:
                problem = self.form_error(error)
            else:
                self.finish_page("diff.html", execution=found.first, other=found.second, diff=found.diff)
                return
        execution = await self.run(GET_EXECUTION, path, {})
        previous = await self._earlier(execution)
        completed = await self._earlier(execution, str(Status.COMPLETED))
        suggested = other or execution.replay_of or execution.replayed_by
        self.finish_page(
            "diff.html",
            execution=execution,
            other=None,
            suggested=suggested,
            previous=previous,
            completed=completed,
            diff=None,
            error=problem,
        )

    async def _earlier(self, execution: Execution, *statuses: str) -> Execution | None:
        """Return the last execution of the same flow that was received before this one; None: none is stored."""
        conditions = {"flow": [execution.flow_id], "until": [execution.received_at.isoformat()], "page_size": ["1"]}
        page = await self.run(LIST_EXECUTIONS, {}, {**conditions, "status": list(statuses)})
        return page.executions[0] if page.executions else None


class LinkRow(NamedTuple):
    """An execution at the other end of a link, as a row of a table."""

    execution_id: str  # its ID
    how: str  # how one caused the other, in words
    flow_id: str = ""  # its flow; empty: not known
    status: Status | None = None  # its status; None: not known
    key: str = ""  # key of the journal's entry of the task that started it; empty: none, or it is not stored
    is_gone: bool = False  # whether it is past retention or was deleted


def cause_rows(detail: ExecutionDetailView) -> list[LinkRow]:
    """Return the executions that caused one: those that started it first, then the newest ones."""
    causes = sorted(detail.links.causes, key=lambda each: each.kinds == (LinkKind.LISTEN,))
    return _rows(causes, CAUSES, {})


def caused_rows(detail: ExecutionDetailView) -> list[LinkRow]:
    """Return the newest executions that one caused.

    A replay also has those whose results it took over, as far as its journal has them.
    """
    links, keys = detail.links, _keys(detail)
    rows = _rows(links.caused, CAUSED, keys)
    if detail.replay is None or links.more_caused:
        return rows
    own = {row.execution_id for row in rows}
    return rows + [LinkRow(each, TAKEN_OVER, key=key) for each, key in keys.items() if each not in own]


def _rows(linked: Sequence[LinkedExecution], words: Mapping[LinkKind, str], keys: Mapping[str, str]) -> list[LinkRow]:
    return [
        LinkRow(
            execution_id=each.id,
            how=", ".join(words[kind] for kind in each.kinds),
            flow_id=each.flow_id,
            status=each.status,
            key=keys.get(each.id, ""),
            is_gone=not each.flow_id,
        )
        for each in linked
    ]


def _keys(detail: ExecutionDetailView) -> dict[str, str]:
    found = ((entry.key, _STARTED.fullmatch(entry.output or b"")) for entry in detail.journal)
    return {match[1].decode(): key for key, match in found if match is not None}
