"""The operations on bulk jobs: their part of `table`."""

from __future__ import annotations

from typing import Any, Final

from operations import jobs
from operations.operation import Operation

LIST_JOBS: Final = Operation(
    "list_jobs",
    "GET",
    "/jobs",
    "List bulk jobs, newest first.",
    jobs.JobList,
    jobs.JobPage,
    jobs.list_jobs,
)
PREVIEW_JOB: Final = Operation(
    "preview_job",
    "GET",
    "/jobs/new",
    "Count the executions that a job would work on, and show some; nothing is created.",
    jobs.JobDraft,
    jobs.PreviewView,
    jobs.preview_job,
)
CREATE_JOB: Final = Operation(
    "create_job",
    "POST",
    "/jobs",
    "Create a bulk job: one action on all executions that meet conditions.",
    jobs.NewJob,
    jobs.JobView,
    jobs.create_job,
)
GET_JOB: Final = Operation(
    "get_job",
    "GET",
    "/jobs/{job_id}",
    "Get a job with its progress.",
    jobs.JobId,
    jobs.JobView,
    jobs.get_job,
)
LIST_JOB_ITEMS: Final = Operation(
    "list_job_items",
    "GET",
    "/jobs/{job_id}/items",
    "List the outcomes of a job's executions.",
    jobs.JobItemList,
    jobs.ItemPage,
    jobs.list_job_items,
)
PAUSE_JOB: Final = Operation(
    "pause_job",
    "POST",
    "/jobs/{job_id}/pause",
    "Pause a job.",
    jobs.JobId,
    jobs.JobView,
    jobs.pause_job,
)
RESUME_JOB: Final = Operation(
    "resume_job",
    "POST",
    "/jobs/{job_id}/resume",
    "Let a paused job continue.",
    jobs.JobId,
    jobs.JobView,
    jobs.resume_job,
)
ABORT_JOB: Final = Operation(
    "abort_job",
    "POST",
    "/jobs/{job_id}/abort",
    "End a job early; what it did stays done.",
    jobs.JobId,
    jobs.JobView,
    jobs.abort_job,
)

OPERATIONS: Final[tuple[Operation[Any], ...]] = (
    LIST_JOBS,
    PREVIEW_JOB,
    CREATE_JOB,
    GET_JOB,
    LIST_JOB_ITEMS,
    PAUSE_JOB,
    RESUME_JOB,
    ABORT_JOB,
)
"""All of them, in the order in which they are described."""
