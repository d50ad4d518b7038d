"""Types of bulk jobs: one action on all executions that match a filter, performed by the router."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import Execution, Status
from flowhook.model.replays import AS_RECORDED, ReplayOptions, ReplayPreview
from flowhook.model.times import time_if_any, time_of, to_datetime

DEFAULT_RATE: Final = 10.0  # executions per second, unless a job has another rate
MAX_RATE: Final = 1000.0  # greatest rate of a job, executions per second
MAX_REASON: Final = 1000  # characters of the reason of a job, and of a resolution
MAX_COUNTED: Final = 10_000  # matching executions that a preview counts; it reports more as `more`

PREFIX: Final = "job_"


class JobAction(StrEnum):
    """What a job does with each execution."""

    REPLAY = "replay"
    CANCEL = "cancel"
    SUSPEND = "suspend"
    RESUME = "resume"
    RESOLVE = "resolve"
    DELETE = "delete"
    RETRY = "retry"


class JobState(StrEnum):
    """Where a job stands. Those that are paused and resumed wait for their turn again."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    ABORTED = "aborted"
    COMPLETED = "completed"

    @property
    def ended(self) -> bool:
        """Whether a job in this state never does anything again."""
        return self in (JobState.ABORTED, JobState.COMPLETED)


JOB_TRANSITIONS: Final = {
    (JobState.PENDING, JobState.RUNNING): JobState.RUNNING,
    (JobState.PENDING, JobState.PAUSED): JobState.PAUSED,
    (JobState.PENDING, JobState.ABORTED): JobState.ABORTED,
    (JobState.PENDING, JobState.COMPLETED): JobState.COMPLETED,
    # resumed while it runs: there is nothing to resume
    (JobState.RUNNING, JobState.PENDING): JobState.RUNNING,
    (JobState.RUNNING, JobState.PAUSED): JobState.PAUSED,
    (JobState.RUNNING, JobState.ABORTED): JobState.ABORTED,
    (JobState.RUNNING, JobState.COMPLETED): JobState.COMPLETED,
    (JobState.PAUSED, JobState.PENDING): JobState.PENDING,
    # paused by an operator while the router was about to begin or to end it: the pause wins
    (JobState.PAUSED, JobState.RUNNING): JobState.PAUSED,
    (JobState.PAUSED, JobState.COMPLETED): JobState.PAUSED,
    (JobState.PAUSED, JobState.ABORTED): JobState.ABORTED,
}
"""The next state of a job, by its state and the requested one. A job that has ended has no next state."""


class ItemOutcome(StrEnum):
    """What became of one execution of a job."""

    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job does."""

    action: JobAction  # what it does with each execution
    filter: ExecutionFilter  # executions must meet all of its conditions when the job reaches them
    # how executions are replayed. Of a job that a router returns, `body` and `output` are empty if they were given; see
    # `Job.data_bytes`
    replay: ReplayOptions = AS_RECORDED
    again: bool = False  # executions that are `replayed`, or have a resolution, are replayed too
    rate: float = DEFAULT_RATE  # most executions per second, in (0, `MAX_RATE`]
    reason: str = ""  # why, of at most `MAX_REASON` characters; also the reason of resolutions


class ReplayEnds(NamedTuple):
    """What became of the executions that a job started: how many of them, now."""

    completed: int
    faulted: int
    cancelled: int
    unended: int  # those that have not ended
    unknown: int = 0  # those that are not stored any more, or that are too many to be counted


@dataclass(frozen=True, slots=True)
class Job:
    """A bulk job and its progress."""

    id: str  # `job_` and 26 characters; sorts by time
    state: JobState
    spec: JobSpec
    expected: int | None  # executions that matched when it was created; None: more than `MAX_COUNTED`
    matched: int  # executions that it has reached so far; `done`, `skipped` and `failed` are their outcomes
    done: int
    skipped: int
    failed: int
    create_time_ms: int
    start_time_ms: int | None = None  # when it began; None: not yet
    end_time_ms: int | None = None  # when it was aborted or completed; None: not yet
    delay_reason: str = ""  # why it makes no progress at this moment, for example a full backlog; empty: it does
    data_bytes: int = 0  # size of the edited body, or of the output, that its replays get
    replay_ends: ReplayEnds | None = None  # of one that replays, what became of these; None in lists

    @property
    def finished(self) -> int:
        """Number of executions whose outcome is known."""
        return self.done + self.skipped + self.failed

    created_at = time_of("create_time_ms")
    started_at = time_if_any("start_time_ms")
    ended_at = time_if_any("end_time_ms")


class JobItem(NamedTuple):
    """The outcome of one execution of a job."""

    number: int  # position in the job, from 1
    execution_id: str
    outcome: ItemOutcome
    reason: str  # stable cause in UPPER_SNAKE_CASE; empty when it is done
    message: str  # the same for people
    new_execution_id: str  # of a replay: the execution that it started; else empty
    time_ms: int
    # its status, by what is stored; None: there is none, or it is not stored any more
    new_execution_status: Status | None = None

    @property
    def time(self) -> datetime:
        """Time at which its outcome was known."""
        return to_datetime(self.time_ms)


class SampledReplay(NamedTuple):
    """What the replay of one execution by a job would do."""

    preview: ReplayPreview | None  # its tasks; None: it would not be replayed, for the reason that follows
    reason: str = ""  # stable cause in UPPER_SNAKE_CASE
    message: str = ""  # the same for people


@dataclass(frozen=True, slots=True)
class JobPreview:
    """Executions that match the filter of a job."""

    count: int  # their number, exact up to 10,000
    more: bool  # whether there are, or may be, more
    sample: tuple[Execution, ...]  # the oldest ones, at most 10
    replays: tuple[SampledReplay, ...] = ()  # what the replay of each in `sample` would do; empty unless that was asked
