"""Formats bulk jobs for the terminal and for programs, and follows their progress."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from cli.output import rfc3339
from flowhook.client import Client
from flowhook.errors import UnavailableError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import Job, JobAction, JobItem, JobState, ReplayEnds

COLUMNS: Final = ("JOB", "ACTION", "STATE", "CREATED", "DONE", "SKIPPED", "FAILED", "OF", "FLOW", "REASON")
ITEM_COLUMNS: Final = ("NO", "EXECUTION", "OUTCOME", "TIME", "REPLAY", "REASON")

POLL_SECONDS: Final = 0.5
"""Between two looks at the progress of a job."""


def job_as_json(job: Job) -> dict[str, Any]:
    """Return the JSON representation of a job."""
    spec, options = job.spec, job.spec.replay
    replay = spec.action is JobAction.REPLAY
    start = "task" if options.from_task else "failed" if options.from_failed else "auto" if options.auto else "start"
    return {
        "id": job.id,
        "state": str(job.state),
        "action": str(spec.action),
        "filter": filter_as_json(spec.filter),
        "revision": ("latest" if options.latest else "pinned") if replay else None,
        "from": start if replay else None,
        "task": options.from_task or None,
        "output_bytes": None if options.output is None else job.data_bytes,
        "body_bytes": None if options.body is None else job.data_bytes,
        "content_type": options.content_type,
        "again": spec.again if replay else None,
        "rate": spec.rate,
        "reason": spec.reason,
        "expected": job.expected,
        "matched": job.matched,
        "done": job.done,
        "skipped": job.skipped,
        "failed": job.failed,
        "created_at": rfc3339(job.create_time_ms),
        "started_at": rfc3339(job.start_time_ms),
        "ended_at": rfc3339(job.end_time_ms),
        "delay_reason": job.delay_reason or None,
        "replays": None if job.replay_ends is None else job.replay_ends._asdict(),
    }


def filter_as_json(execution_filter: ExecutionFilter) -> dict[str, Any]:
    """Return the JSON representation of a filter: its conditions, without those that there are not."""
    given = {
        "flow": execution_filter.flow_id,
        "status": [str(status) for status in execution_filter.statuses],
        "unresolved": execution_filter.unresolved,
        "since": rfc3339(execution_filter.receive_from_ms),
        "until": rfc3339(execution_filter.receive_until_ms),
        "error_type": execution_filter.error_type,
        "error_status": execution_filter.error_status,
        "error_title": execution_filter.error_title,
        "min_attempts": execution_filter.min_attempts,
        "attributes": dict(execution_filter.attributes),
        "caused_by": execution_filter.caused_by,
    }
    task = {} if execution_filter.error_task is None else {"error_task": execution_filter.error_task}
    return {name: value for name, value in given.items() if value} | task


def item_as_json(item: JobItem) -> dict[str, Any]:
    """Return the JSON representation of the outcome of an execution."""
    return {
        "number": item.number,
        "execution": item.execution_id,
        "outcome": str(item.outcome),
        "reason": item.reason or None,
        "message": item.message or None,
        "replay": item.new_execution_id or None,
        "replay_status": item.new_execution_status,
        "time": rfc3339(item.time_ms),
    }


def job_row(job: Job) -> tuple[object, ...]:
    """Return a job as a row for `COLUMNS`."""
    return (
        job.id,
        str(job.spec.action),
        str(job.state),
        rfc3339(job.create_time_ms),
        job.done,
        job.skipped,
        job.failed,
        _expected(job),
        job.spec.filter.flow_id,
        job.spec.reason,
    )


def item_row(item: JobItem) -> tuple[object, ...]:
    """Return the outcome of an execution as a row for `ITEM_COLUMNS`."""
    reason = f"{item.reason}: {item.message}" if item.reason else ""
    replay = " ".join(filter(None, (item.new_execution_id, item.new_execution_status)))
    return item.number, item.execution_id, str(item.outcome), rfc3339(item.time_ms), replay, reason


def progress(job: Job) -> str:
    """Return the progress of a job as one line."""
    line = f"{job.id}: {job.state}, {job.finished} of {_expected(job)}"
    done = "started" if job.spec.action is JobAction.REPLAY else "done"
    counts = f"{job.done} {done}{_ends(job.replay_ends)}, {job.skipped} skipped, {job.failed} failed"
    return f"{line}: {counts}{f' ({job.delay_reason})' if job.delay_reason else ''}"


def _ends(ends: ReplayEnds | None) -> str:
    """Return what became of replays, in brackets; empty: there are none."""
    if ends is None or not any(ends):
        return ""
    words = zip(("completed", "faulted", "cancelled", "not ended", "not known"), ends, strict=True)
    return f" ({', '.join(f'{count} {word}' for word, count in words if count)})"


def follow(client: Client, job: Job) -> Job:
    """Print the progress of a job to stderr whenever it changes, until it ends or is paused; return it then.

    Waits while the router is unavailable.
    """
    shown, line = "", progress(job)
    while True:
        if line != shown:
            print(line, file=sys.stderr)
            shown = line
        if job.state.ended or job.state is JobState.PAUSED:
            return job
        time.sleep(POLL_SECONDS)
        try:
            job = client.jobs.get(job.id)
        except UnavailableError as error:
            line = f"flowhook: {error.message}; trying again"
        else:
            line = progress(job)


def _expected(job: Job) -> str:
    if job.state is JobState.COMPLETED:
        return str(job.finished)
    return "more than 10000" if job.expected is None else str(max(job.expected, job.finished))
