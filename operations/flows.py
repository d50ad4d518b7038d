"""Operations on flows: their files, their numbers, pictures, and the overview of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import orjson
from pydantic import Field

from flowhook.errors import Fault, InvalidFlowError, NotFoundError
from flowhook.model import Change, TaskRun
from flowhook.model.flows import AppliedFlow, Flow, FlowCondition, FlowRevision, FlowStatistics
from flowhook.model.overview import Overview, Period
from operations.comparison import DiffLine, diff
from operations.encoding import shown_fields
from operations.flow_setup import FlowSetup
from operations.operation import PageParameters, PageSize, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

Revision = Annotated[int, Field(ge=0, lt=2**63)]


class FlowName(Parameters):
    """Parameters of operations on one flow."""

    flow_id: str
    """ID of the flow."""


class FlowAtRevision(FlowName):
    """Parameters of operations on one revision of a flow."""

    revision: Revision = 0
    """Number of the revision; 0: the latest."""


class FlowToApply(Parameters):
    """Parameters of `apply_flow`."""

    document: str
    """The file: YAML, at most 256 KiB in UTF-8."""
    dry_run: bool = False
    """Only check and compare it."""


@dataclass(frozen=True, slots=True)
class FlowDetail(Flow):
    """A flow with the text of its file, and what the file says as JSON."""

    document: bytes
    definition: bytes


@dataclass(frozen=True, slots=True)
class DeletedFlow:
    """The flow that was deleted."""

    id: str


async def get_flow(client: AsyncClient, parameters: FlowAtRevision) -> FlowDetail:
    """Get a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    return FlowDetail(**shown_fields(FlowDetail, flow))


async def apply_flow(client: AsyncClient, parameters: FlowToApply) -> AppliedFlow:
    """Create a flow, or give it a new revision; or check its file."""
    [applied] = await client.flows.apply((parameters.document.encode(),), dry_run=parameters.dry_run)
    return applied


async def delete_flow(client: AsyncClient, parameters: FlowName) -> DeletedFlow:
    """Delete a flow: its URL answers 404; executions that were accepted finish."""
    await client.flows.delete(parameters.flow_id)
    return DeletedFlow(parameters.flow_id)


async def pause_flow(client: AsyncClient, parameters: FlowName) -> Flow:
    """Pause a flow: events are accepted and queued, and not run."""
    return await client.flows.pause(parameters.flow_id)


async def resume_flow(client: AsyncClient, parameters: FlowName) -> Flow:
    """Resume a flow: queued and new events are run."""
    return await client.flows.resume(parameters.flow_id)


async def get_flow_setup(client: AsyncClient, parameters: FlowName, tools: Tools) -> FlowSetup:
    """Get how a flow is reached: URLs, set-up steps of senders, secrets, limits and next times."""
    from operations import flow_reach  # noqa: PLC0415 - it imports the models of `webhook`, 10 MiB

    flow = await client.flows.get(parameters.flow_id)
    times = {secret.name: secret.updated_at for secret in await client.secrets.list() if secret.updated_at}
    return flow_reach.describe(flow, await tools.edges.url(client) if flow.has_webhook else "", times)


RATE_MINUTES: Final = 5  # minutes over which a rate is averaged, the current one included


class FlowList(PageParameters):
    """Parameters of `list_flows`."""

    name: Annotated[str, Field(max_length=127)] = ""
    """Only flows whose ID contains this."""
    state: FlowCondition | None = None
    """Only flows that are paused, that failed within the last hour, that need a secret which is not set, or that are
    silent: they got no event for longer than they expect."""
    page_size: PageSize = 100
    """Items on the page at most; before the last page there may be fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowNumbers(FlowStatistics):
    """Numbers of a flow's executions.

    `accepted`, `completed` and `faulted` are those of each of the last 60 minutes, oldest first, the current one last;
    they are complete from `since` on. `per_minute`: events accepted per minute, of the last 5. `error_share`: share of
    those that faulted in the last hour among those that completed or faulted, in [0, 1]; null: none did.
    `oldest_pending_at`: when the pending execution that runs next was received; null: none is ready. `last_event_at`:
    when the latest stored execution was received. `silent_since`: when a flow that got no event for longer than its
    `webhook.expect` says got the last one, or was applied; null: it is not silent.
    """

    since: datetime
    per_minute: float
    accepted_in_hour: int
    completed_in_hour: int
    faulted_in_hour: int
    error_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFlow(Flow):
    """A flow with its numbers."""

    numbers: FlowNumbers


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Flows by ascending ID, and the token of the next page; empty on the last.

    With `state` there may be fewer flows than asked for, although there is a next page.
    """

    flows: tuple[ListedFlow, ...]
    next_page_token: str


async def list_flows(client: AsyncClient, parameters: FlowList) -> FlowPage:
    """List flows by ID, with their numbers."""
    page = await client.flows.statistics_page(
        name_contains=parameters.name,
        condition=parameters.state,
        page_size=parameters.page_size,
        page_token=parameters.page_token,
    )
    return FlowPage(tuple(listed(item, page.since) for item in page.items), page.next_page_token)


async def get_flow_statistics(client: AsyncClient, parameters: FlowName) -> FlowNumbers:
    """Get the numbers of a flow: rates, errors, its queue, its secrets."""
    page = await client.flows.statistics(parameters.flow_id)
    return numbers(page.items[0], page.since)


def numbers(statistics: FlowStatistics, since: datetime) -> FlowNumbers:
    completed, faulted = sum(statistics.completed), sum(statistics.faulted)
    return FlowNumbers(
        **shown_fields(FlowStatistics, statistics),
        since=since,
        per_minute=round(sum(statistics.accepted[-RATE_MINUTES:]) / RATE_MINUTES, 1),
        accepted_in_hour=sum(statistics.accepted),
        completed_in_hour=completed,
        faulted_in_hour=faulted,
        error_share=round(faulted / (completed + faulted), 4) if completed + faulted else None,
    )


def listed(statistics: FlowStatistics, since: datetime) -> ListedFlow:
    return ListedFlow(**shown_fields(ListedFlow, statistics.flow), numbers=numbers(statistics, since))


@dataclass(frozen=True, slots=True)
class FlowPicture:
    """A picture of a revision of a flow: SVG, with the classes of `diagram.css`, and pointers in `data-task`."""

    revision: int
    svg: str


async def get_flow_picture(client: AsyncClient, parameters: FlowAtRevision) -> FlowPicture:
    """Draw a flow."""
    flow = await client.flows.get(parameters.flow_id, revision=parameters.revision)
    return FlowPicture(flow.revision, await draw(flow))


async def draw(flow: Flow) -> str:
    """Return the picture of a flow. In a thread, since that of a large flow takes a quarter of a second."""
    from operations.diagram.svg import svg  # noqa: PLC0415 - for those that draw

    return await asyncio.to_thread(svg, orjson.loads(flow.definition), flow.id)


async def draw_execution(flow: Flow, runs: Sequence[TaskRun], *, completed: bool) -> str:
    """Return the picture of a flow with the path of an execution, whose tasks are `runs`, on it."""
    from operations.diagram.path import execution_path  # noqa: PLC0415 - for those that draw
    from operations.diagram.svg import svg  # noqa: PLC0415

    def picture() -> str:
        definition = orjson.loads(flow.definition)
        path = execution_path(definition, runs, completed=completed)
        return svg(definition, flow.id, path=path, now_ms=round(time.time() * 1000))

    return await asyncio.to_thread(picture)


MAX_LINES: Final = 5000  # lines of a comparison; beyond it a last one says so


class RevisionList(FlowName, PageParameters):
    """Parameters of `list_revisions`."""

    page_size: PageSize = 100
    """Items on the page at most; before the last page there may be fewer."""


class RevisionPair(FlowName):
    """Parameters of `diff_revisions`."""

    old: Revision = 0
    """Number of the earlier revision; 0: the one before `new`."""
    new: Revision = 0
    """Number of the later revision; 0: the latest."""


@dataclass(frozen=True, slots=True)
class RevisionPage:
    """Stored revisions of a flow, newest first, and the token of the next page; empty on the last."""

    revisions: tuple[FlowRevision, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class RevisionDiff:
    """What changed in the file of a flow from revision `old` to revision `new`; `old` is 0 if there is none before."""

    old: int
    new: int
    lines: tuple[DiffLine, ...]


async def list_revisions(client: AsyncClient, parameters: RevisionList) -> RevisionPage:
    """List the stored revisions of a flow, newest first."""
    page = await client.flows.revisions_page(
        parameters.flow_id, page_size=parameters.page_size, page_token=parameters.page_token
    )
    return RevisionPage(tuple(page.items), page.next_page_token)


async def diff_revisions(client: AsyncClient, parameters: RevisionPair) -> RevisionDiff:
    """Compare the files of two revisions of a flow."""
    new = await client.flows.get(parameters.flow_id, revision=parameters.new)
    number = parameters.old
    if not number:
        earlier = await client.flows.revisions_page(parameters.flow_id, page_size=1, page_token=str(new.revision))
        number = earlier.items[0].revision if earlier.items else 0
        if not number:
            return RevisionDiff(0, new.revision, ())
    old = await client.flows.get(parameters.flow_id, revision=number)
    texts = (flow.document.decode("utf-8", "replace") for flow in (old, new))
    return RevisionDiff(old.revision, new.revision, await compare(*texts))


async def compare(old: str, new: str) -> tuple[DiffLine, ...]:
    """Return what changed between two files, at most `MAX_LINES` lines and one that says that there are more.

    In a thread, since it may take a second.
    """
    lines = await asyncio.to_thread(lambda: tuple(islice(diff(old, new), MAX_LINES + 1)))
    if len(lines) <= MAX_LINES:
        return lines
    return (*lines[:MAX_LINES], DiffLine("@", "further changes are not shown"))


class FlowText(Parameters):
    """Parameters of `check_flow`."""

    document: Annotated[str, Field(min_length=1)]
    """The file: YAML, at most 256 KiB in UTF-8."""


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """A problem of a file. `line`: from 1; 0: it concerns the whole file. `key`: dotted path, or empty.

    `code`: a stable word for programs.
    """

    line: int
    key: str
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """What applying a file would do; or, if there are `problems`, why it can't be applied.

    `flow_id` and `change` are null, and the rest is empty, if there are problems. `revision`: the present one, 0 if the
    flow is new. `diff`: from the present file to this one. `picture`: SVG, with the classes of `diagram.css`.
    """

    problems: tuple[ListedProblem, ...]
    flow_id: str | None
    change: Change | None
    revision: int
    warnings: tuple[ListedProblem, ...]
    diff: tuple[DiffLine, ...]
    picture: str


async def check_flow(client: AsyncClient, parameters: FlowText) -> CheckedFlow:
    """Check the file of a flow: its problems by line or, if there is none, what applying it would change."""
    try:
        [applied] = await client.flows.apply((parameters.document.encode(),), dry_run=True)
    except InvalidFlowError as error:
        return CheckedFlow(problems_of(error.faults), None, None, 0, (), (), "")
    flow = applied.flow
    present, revision = "", 0
    if applied.change is not Change.CREATED:
        try:
            stored = await client.flows.get(flow.id)
            present, revision = stored.document.decode("utf-8", "replace"), stored.revision
        except NotFoundError:
            pass  # it was deleted meanwhile
    changes = await compare(present, parameters.document) if revision else ()
    return CheckedFlow(
        (), flow.id, applied.change, revision, problems_of(applied.located_warnings), changes, await draw(flow)
    )


def problems_of(faults: Iterable[Fault]) -> tuple[ListedProblem, ...]:
    return tuple(ListedProblem(fault.line, fault.key, fault.cause, fault.code) for fault in faults)


class OverviewOf(Parameters):
    """Parameters of `get_overview`."""

    flow: str = ""
    """ID of a flow; empty: all flows together."""
    period: Period = Period.HOUR
    """The period up to now."""


async def get_overview(client: AsyncClient, parameters: OverviewOf) -> Overview:
    """Get what flows did over a period: throughput, faults, latency, queue, incidents, storage."""
    return await client.flows.overview(parameters.flow, period=parameters.period)
