"""Operations on bulk jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from flowhook.model.jobs import (
    DEFAULT_RATE,
    MAX_RATE,
    MAX_REASON,
    ItemOutcome,
    Job,
    JobAction,
    JobItem,
    JobPreview,
    JobSpec,
)
from flowhook.model.replays import AS_RECORDED, AUTO, ReplayOptions
from operations.encoding import shown_fields
from operations.execution_list import ExecutionConditions, conditions_of, pairs_of
from operations.executions import ReplayParameters
from operations.operation import PageParameters, PageSize, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class JobDraft(ExecutionConditions, ReplayParameters):
    """Parameters of `preview_job`: what a job is to do, and for the action `replay` how."""

    action: JobAction = JobAction.REPLAY
    """What is done with each execution."""
    again: bool = False
    """Whether executions that were replayed or resolved already are replayed, too."""
    rate: Annotated[float, Field(gt=0, le=MAX_RATE)] = DEFAULT_RATE
    """Executions per second at most."""


class NewJob(JobDraft):
    """Parameters of `create_job`."""

    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    """Why; stands in the audit log, and with executions that are resolved."""
    request_id: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")] = ""
    """Idempotency key: calls with the same one create one job."""


class JobId(Parameters):
    """Parameters of operations on one job."""

    job_id: str
    """ID of the job."""


class JobList(PageParameters):
    """Parameters of `list_jobs`."""


class JobItemList(JobId, PageParameters):
    """Parameters of `list_job_items`."""

    outcome: ItemOutcome | None = None
    """Only executions with this outcome."""
    page_size: PageSize = 100
    """Items on the page at most; before the last page there may be fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView(Job):
    """A bulk job.

    `filter`: its conditions, as parameters of `list_executions`. `expected` is null if more than 10,000 executions
    matched when it was created.

    Of the action `replay`: `replays` says in words how; `output_given` and `edited`: an output of `task`, or an edited
    body, of `data_bytes` bytes was given, which is not shown. `content_type` is null if the body has that of each
    request. `replay_ends`: what became of the `done` ones; null in lists.
    """

    action: JobAction
    filter: Mapping[str, Any]
    revision: str
    start: str
    task: str
    output_given: bool
    edited: bool
    content_type: str | None
    replays: str
    again: bool
    rate: float
    reason: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return pairs_of(self.filter)


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first, and the token of the next page; empty on the last."""

    jobs: tuple[JobView, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Outcomes in the order of the work, and the token of the next page; empty on the last."""

    items: tuple[JobItem, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView(JobPreview):
    """How many executions match, whether there are more than the count says, and the oldest ones.

    Of the action `replay`: `words` says how executions would be replayed, and `replays` what each of `sample` would do.
    """

    words: str


async def preview_job(client: AsyncClient, parameters: JobDraft) -> PreviewView:
    """Count the executions that a job would work on, and show some; nothing is created."""
    options = parameters.options() if parameters.action is JobAction.REPLAY else None
    wanted = parameters.as_filter(datetime.now(UTC))
    preview = await client.jobs.preview(wanted, replay=options, again=parameters.again)
    return PreviewView(**shown_fields(JobPreview, preview), words="" if options is None else options.in_words())


async def create_job(client: AsyncClient, parameters: NewJob) -> JobView:
    """Create a bulk job: one action on all executions that meet conditions."""
    options = parameters.options()
    is_unused = parameters.action is not JobAction.REPLAY and options == AUTO
    spec = JobSpec(
        action=parameters.action,
        filter=parameters.as_filter(datetime.now(UTC)),
        replay=AS_RECORDED if is_unused else options,
        again=parameters.again,
        rate=parameters.rate,
        reason=parameters.reason,
    )
    return job_view(await client.jobs.create(spec, request_id=parameters.request_id))


async def list_jobs(client: AsyncClient, parameters: JobList) -> JobPage:
    """List bulk jobs, newest first."""
    page = await client.jobs.page(page_size=parameters.page_size, page_token=parameters.page_token)
    return JobPage(tuple(map(job_view, page.items)), page.next_page_token)


async def get_job(client: AsyncClient, parameters: JobId) -> JobView:
    """Get a job with its progress."""
    return job_view(await client.jobs.get(parameters.job_id))


async def list_job_items(client: AsyncClient, parameters: JobItemList) -> ItemPage:
    """List the outcomes of a job's executions."""
    page = await client.jobs.item_page(
        parameters.job_id, outcome=parameters.outcome, page_size=parameters.page_size, page_token=parameters.page_token
    )
    return ItemPage(tuple(page.items), page.next_page_token)


async def pause_job(client: AsyncClient, parameters: JobId) -> JobView:
    """Pause a job."""
    return job_view(await client.jobs.pause(parameters.job_id))


async def resume_job(client: AsyncClient, parameters: JobId) -> JobView:
    """Let a paused job continue."""
    return job_view(await client.jobs.resume(parameters.job_id))


async def abort_job(client: AsyncClient, parameters: JobId) -> JobView:
    """End a job early; what it did stays done."""
    return job_view(await client.jobs.abort(parameters.job_id))


def job_view(job: Job) -> JobView:
    """Return a job as operators see it: conditions and options as words and flags, edited data only as given or not."""
    spec, replay = job.spec, job.spec.replay
    return JobView(
        **shown_fields(Job, job),
        action=spec.action,
        filter=conditions_of(spec.filter),
        revision="latest" if replay.latest else "pinned",
        start=_start(replay),
        task=replay.from_task,
        output_given=replay.output is not None,
        edited=replay.body is not None,
        content_type=replay.content_type,
        replays=replay.in_words() if spec.action is JobAction.REPLAY else "",
        again=spec.again,
        rate=spec.rate,
        reason=spec.reason,
    )


def _start(replay: ReplayOptions) -> str:
    if replay.from_task or replay.from_failed:
        return "task" if replay.from_task else "failed_task"
    return "auto" if replay.auto else "beginning"
