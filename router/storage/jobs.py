"""Storage of bulk jobs, and the values it exchanges with the router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from flowhook import limits
from flowhook.model.jobs import ItemOutcome, JobItem, JobState, ReplayEnds
from router.storage.model import ExecutionRecord

MAX_JOBS: Final = 1000
"""Jobs that are stored; the oldest one that has ended makes room for a new one."""

MAX_ITEMS: Final = 100_000
"""Items of one job whose outcomes are stored; those of later ones are only counted."""

MAX_DATA_BYTES: Final = 64 * limits.MIB
"""Total size of the data of jobs that have not ended."""

PAGE: Final = 1000
"""Most rows that one call returns, unless it is given another limit."""


class NewJob(NamedTuple):
    """A job to create.

    Attributes:
        request_id: creating a job twice with the same one creates it once; empty: no idempotence.
        spec: opaque.
        expected: executions that match it now; None: unknown.
        data: opaque; what the job needs besides `spec`, and may be large. It is removed when the job ends.
    """

    id: str
    spec: bytes
    create_time_ms: int
    expected: int | None = None
    request_id: str = ""
    data: bytes = b""


class StoredJob(NamedTuple):
    """A job as stored.

    Attributes:
        number: ascending in the order of creation.
        last_seq: sequence number of the last execution that was accepted before the job was created.
        cursor: sequence number of the last execution that it has looked at; 0: none.
        request_id: see `NewJob`.
        data_bytes: size of its data, whether they are still stored or not.
    """

    number: int
    id: str
    state: JobState
    spec: bytes
    last_seq: int
    cursor: int
    expected: int | None
    matched: int
    done: int
    skipped: int
    failed: int
    create_time_ms: int
    start_time_ms: int | None
    end_time_ms: int | None
    request_id: str
    data_bytes: int


class ClaimedItem(NamedTuple):
    """An execution that a job has reached, and whose outcome is not stored yet."""

    number: int
    seq: int
    execution_id: str
    time_ms: int


class ExecutionWalk(NamedTuple):
    """Part of a walk over executions.

    Attributes:
        records: executions, oldest first.
        next_after_seq: number after which the walk continues; None: nothing more meets the conditions.
    """

    records: list[ExecutionRecord]
    next_after_seq: int | None


class JobStore(Protocol):
    """Jobs and the outcomes of their items.

    A job works in batches: it claims items, performs them, and settles their outcomes. So after a crash at any moment
    the items that may have been performed are known: those claimed and not settled.
    """

    async def create(self, job: NewJob) -> StoredJob:
        """Create a job, `PENDING`, for executions accepted so far; or return the one with the same `request_id`.

        Raises:
            ExhaustedError: `MAX_JOBS` jobs have not ended, or the data of those that have not are `MAX_DATA_BYTES`
                (`TOO_MANY_JOBS`).
        """
        ...

    async def get(self, job_id: str) -> StoredJob | None:
        """Return a job, or None when it is unknown or past retention."""
        ...

    async def data(self, job_number: int) -> bytes:
        """Return the data of a job that has not ended; empty: it has none, or has ended."""
        ...

    async def page(self, *, before_number: int | None = None, limit: int = PAGE) -> list[StoredJob]:
        """Return jobs, newest first."""
        ...

    async def unended(self) -> list[StoredJob]:
        """Return the jobs that have not ended, and those that ended with unsettled items; oldest first."""
        ...

    async def change_state(self, job_id: str, state: JobState, *, now_ms: int) -> StoredJob:
        """Change the state of a job, and return it; no effect if it is in that state already.

        A job that is paused can't be completed: it is returned as it is.

        Raises:
            NotFoundError: there is no such job (`JOB_NOT_FOUND`).
            ConflictError: it has ended (`JOB_ENDED`).
        """
        ...

    async def claim(
        self, job_number: int, executions: Sequence[tuple[int, str]], *, cursor: int, now_ms: int
    ) -> list[ClaimedItem] | None:
        """Add items, given as pairs of sequence number and ID, to a job, and move its cursor.

        Returns:
            The items; None: nothing was changed, because the job is not `RUNNING`.
        """
        ...

    async def claimed(self, job_number: int) -> list[ClaimedItem]:
        """Return the items that are claimed and not settled, by ascending number."""
        ...

    async def settle(self, job_number: int, items: Sequence[JobItem]) -> None:
        """Store the outcomes of claimed items, and count them. No effect for those that are settled already."""
        ...

    async def release(self, job_number: int, *, cursor: int) -> None:
        """Withdraw all claims that are not settled, and set the cursor back."""
        ...

    async def replay_ends(self, job_number: int, *, started: int) -> ReplayEnds:
        """Return what became of the executions that a job started, given their number; takes bounded time."""
        ...

    async def items(
        self, job_number: int, *, after_number: int = 0, limit: int = PAGE, outcome: ItemOutcome | None = None
    ) -> list[JobItem]:
        """Return items by ascending number, with any outcome or with one."""
        ...
