"""`/jobs`, `/jobs/new` and `/jobs/ID`."""

from __future__ import annotations

import http
import uuid
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from admin.console.page import Page
from admin.operations.filters import to_pairs
from admin.operations.job_table import GET_JOB, LIST_JOB_ITEMS, LIST_JOBS, PREVIEW_JOB
from flowhook.errors import FlowhookError, UnauthenticatedError
from flowhook.jobs import ItemOutcome, JobAction, JobState
from flowhook.model import Status

ITEMS: Final = 100
"""Outcomes on a page."""


class JobsPage(Page):
    """`/jobs`: jobs, newest first, with their progress."""

    section = "jobs"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        parameters = LIST_JOBS.read_query({}, self.query())
        async with self.router() as client:
            page = await LIST_JOBS.perform(client, parameters, self.context.tools)
        older = urlencode({"page_token": page.next_page_token})
        active = any(job.state in (JobState.PENDING, JobState.RUNNING) for job in page.jobs)
        self.finish_page("jobs.html", page=page, first=not parameters.page_token, older=older, active=active)


class NewJobPage(Page):
    """`/jobs/new`: conditions on executions; how many meet them, some of them, and the button that creates a job."""

    section = "jobs"

    async def show(self, *_values: str) -> None:
        """Respond with the form, and with the preview unless it is opened without parameters."""
        query = self.query()
        draft = PREVIEW_JOB.read_query({}, query)
        conditions = to_pairs(draft.as_filter(datetime.now(UTC)))
        preview = None
        if query:
            async with self.router() as client:
                preview = await PREVIEW_JOB.perform(client, draft, self.context.tools)
        self.finish_page(
            "job_new.html",
            draft=draft,
            filters=draft,
            preview=preview,
            conditions=conditions,
            query=urlencode(conditions),
            statuses=list(Status),
            actions=list(JobAction),
            request_id=uuid.uuid4().hex,
        )


class JobPage(Page):
    """`/jobs/ID`: what a job does, its progress, and the outcomes of its executions."""

    section = "jobs"

    async def show(self, *values: str) -> None:
        """Respond with the job."""
        path = {"job_id": values[0]}
        parameters = LIST_JOB_ITEMS.read_query(path, self.query())
        async with self.router() as client:
            job = await GET_JOB.perform(client, GET_JOB.read(path, {}), self.context.tools)
            page = await LIST_JOB_ITEMS.perform(client, parameters, self.context.tools)
        outcome = {} if parameters.outcome is None else {"outcome": parameters.outcome}
        self.finish_page(
            "job.html",
            job=job,
            page=page,
            outcome=parameters.outcome,
            outcomes=[ItemOutcome.DONE, ItemOutcome.SKIPPED, ItemOutcome.FAILED],
            query=urlencode([(each.name, each.value) for each in job.conditions]),
            first=not parameters.page_token,
            start=urlencode(outcome),
            further=urlencode({**outcome, "page_token": page.next_page_token}),
        )


class JobProgress(Page):
    """`/jobs/ID/progress`: the part of the page of a job that changes; the page asks for it every second."""

    section = "jobs"
    SUPPORTED_METHODS = ("GET",)

    async def show(self, *values: str) -> None:
        """Respond with the progress; reload the whole page once the job waits or has ended."""
        job = await self.run(GET_JOB, {"job_id": values[0]})
        if job.state.ended or job.state is JobState.PAUSED:
            self.set_header("HX-Refresh", "true")
        self.finish_page("job_progress.html", job=job)

    def finish_error(self, error: FlowhookError) -> None:
        """Refuse with a status that no page follows when the session has ended."""
        if isinstance(error, UnauthenticatedError):
            self.set_status(http.HTTPStatus.UNAUTHORIZED)
            self.finish()
        else:
            super().finish_error(error)
