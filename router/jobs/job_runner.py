"""Runs the jobs that have not ended, a few at a time, while this router owns the shard; at the rate of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import attrs

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import ConflictError, ExhaustedError, FlowhookError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Status
from flowhook.model.jobs import ItemOutcome, JobAction, JobItem, JobSpec, JobState
from flowhook.process import logs
from router.dispatch.shard_runtime import ShardRuntime
from router.jobs.job_specs import MatchingExecutions, load_spec
from router.jobs.removal import ExecutionRemoval
from router.replay.replays import Replays
from router.storage.jobs import ClaimedItem, JobStore, StoredJob
from router.storage.model import ExecutionRecord

# most time that a job may catch up on after a delay, for example while it searches for further executions
CATCH_UP_SECONDS: Final = 0.5
BATCH_SECONDS: Final = 0.5  # time that the executions of one batch take at the rate of the job
MAX_BATCH: Final = 250  # executions of one batch at most
SETTLE_SECONDS: Final = 0.5  # longest time for which outcomes are not stored: how far the progress lags behind
RETRY_SECONDS: Final = 1.0  # time after which what is not possible at this moment is tried again
MAX_RUNNING: Final = 4  # jobs that run at a time; the others wait, in the order of their creation
STOP_SECONDS: Final = 1.0  # longest time that a pause or an abort waits for the execution that is being worked on
MAX_MESSAGE: Final = 300  # characters of the message of an outcome
# reason of an error that no further attempt mends: it must not hold up the other executions of a job
OBJECT_DAMAGED: Final = "OBJECT_DAMAGED"

# reasons for which the action does not apply to an execution (any more): it is skipped
_NOTHING_TO_DO: Final = frozenset(
    {
        "BATCH_STORED",
        "EXECUTION_ENDED",
        "EXECUTION_NOT_ENDED",
        "EXECUTION_NOT_FAILED",
        "EXECUTION_NOT_FOUND",
        "EXECUTION_NOT_RETRYING",
        "EXECUTION_NOT_SUSPENDED",
        "EXECUTION_REPLAYED",
        "EXECUTION_RESOLVED",
        "ORIGINAL_STORED",
        "PARENT_NOT_ENDED",
        "TASK_NOT_FOUND",
    }
)

# refusals, with the status of the execution, that mean for a repeated action that the first one was performed
_DONE_BEFORE: Final = frozenset(
    {
        (JobAction.CANCEL, "EXECUTION_ENDED", Status.CANCELLED),
        *(
            (JobAction.RESUME, "EXECUTION_NOT_SUSPENDED", status)
            for status in frozenset(Status) - {Status.SUSPENDED, Status.CANCELLED}
        ),
        *(
            (JobAction.RETRY, "EXECUTION_NOT_RETRYING", status)
            for status in frozenset(Status) - {Status.WAITING, Status.SUSPENDED, Status.CANCELLED}
        ),
    }
)

T = TypeVar("T")
log = logs.get_logger(__name__)


class ItemResult(NamedTuple):
    """The outcome of an action on one execution; see `flowhook.model.jobs.JobItem`."""

    outcome: ItemOutcome
    reason: str = ""
    message: str = ""
    new_execution_id: str = ""


@attrs.define(eq=False, repr=False)
class JobActions:
    """Performs actions on executions."""

    _runtime: ShardRuntime
    _replays: Replays
    _removal: ExecutionRemoval

    async def perform(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        """Perform the action of a job on an execution that it has claimed.

        `repeated`: the action may have been performed already for this claim.

        Raises:
            ExhaustedError: a backlog is full: try again.
            UnavailableError: storage can't serve: try again.
        """
        try:
            return await self._perform(job_id, spec, item, repeated=repeated)
        except (ExhaustedError, UnavailableError) as error:
            if error.reason != OBJECT_DAMAGED:
                raise
            return ItemResult(ItemOutcome.FAILED, error.reason, error.message[:MAX_MESSAGE])
        except FlowhookError as error:
            if error.reason == "SHARD_LOST":
                raise UnavailableError(error.message, reason=error.reason) from error
            if repeated and isinstance(error, ConflictError):
                record = await self._runtime.executions.find(item.execution_id)
                if (spec.action, error.reason, record.status) in _DONE_BEFORE:  # by an earlier attempt at this claim
                    return ItemResult(ItemOutcome.DONE)
            outcome = ItemOutcome.SKIPPED if error.reason in _NOTHING_TO_DO else ItemOutcome.FAILED
            return ItemResult(outcome, error.reason, error.message[:MAX_MESSAGE])
        except Exception:
            log.exception("action of a job failed", job=job_id, execution=item.execution_id)
            return ItemResult(ItemOutcome.FAILED, "INTERNAL", "internal error; see the router's log")

    async def _perform(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        execution_id = item.execution_id
        match spec.action:
            case JobAction.REPLAY:
                return await self._start_replay(job_id, spec, item, repeated=repeated)
            case JobAction.DELETE:
                try:
                    await self._removal.delete(execution_id)
                except NotFoundError:
                    if not repeated:
                        raise
            case JobAction.RESOLVE:
                await self._runtime.commands.resolve(execution_id, spec.reason)
            case JobAction.CANCEL:
                await self._runtime.commands.cancel(execution_id)
            case JobAction.SUSPEND:
                await self._runtime.commands.suspend(execution_id)
            case JobAction.RESUME:
                await self._runtime.commands.resume(execution_id)
            case JobAction.RETRY:
                await self._runtime.commands.retry_now(execution_id)
        return ItemResult(ItemOutcome.DONE)

    async def _start_replay(self, job_id: str, spec: JobSpec, item: ClaimedItem, *, repeated: bool) -> ItemResult:
        original = await self._runtime.executions.find(item.execution_id)
        # the same for each attempt at this claim, so that at most one replay is stored
        event_id = ids.derive(ids.slot_of(original.flow_id), item.time_ms, f"{job_id} {original.id}")
        if repeated and await self._runtime.parts.state.find(event_id) is not None:
            return ItemResult(ItemOutcome.DONE, new_execution_id=event_id)
        if not spec.again:
            await self.check_not_superseded(original)
        replay = await self._replays.start(original.id, spec.replay, unless_replayed=not spec.again, event_id=event_id)
        return ItemResult(ItemOutcome.DONE, new_execution_id=replay.id)

    async def check_not_superseded(self, original: ExecutionRecord) -> None:
        latest_id = await self._runtime.parts.state.superseded_by(original.seq)
        if latest_id is not None:
            failed = "" if original.replayed else ", which failed: replay that one"
            raise ConflictError(f"{original.id} has been replayed, as {latest_id}{failed}", reason="EXECUTION_REPLAYED")


class Pace:
    """Computes the delays between actions, at a rate per second above 0; the first begins at once."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._due = float("-inf")

    def delay(self, now: float) -> float:
        """Return the seconds until the next action may begin; count that action as begun then."""
        self._due = max(self._due, now - CATCH_UP_SECONDS) if self._due > float("-inf") else now
        delay = max(0.0, self._due - now)
        self._due += self._interval
        return delay


@attrs.define(eq=False, repr=False)
class JobRun:
    """The work on one job, until it is completed, or stopped because the job was paused or aborted."""

    _job: StoredJob
    _spec: JobSpec
    _runner: JobRunner
    _pace: Pace = attrs.field(init=False)
    _batch: int = attrs.field(init=False)
    _stopped: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _uncertain: bool = attrs.field(init=False, default=False)
    # why it makes no progress at this moment; empty: it does
    delay_reason: str = attrs.field(init=False, default="")
    ended: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # set when `run` has returned

    def __attrs_post_init__(self) -> None:
        self._pace = Pace(self._spec.rate)
        self._batch = max(1, min(MAX_BATCH, round(self._spec.rate * BATCH_SECONDS)))

    def stop(self) -> None:
        """Let `run` return before the next execution: the state of the job has changed."""
        self._stopped.set()

    async def run(self) -> None:
        """Work on the job. Cancelling it leaves claims behind, which the next run settles."""
        try:
            job = await self._change_state(JobState.RUNNING)
            if job is None or job.state is not JobState.RUNNING:
                return
            earlier = await self._retrying(lambda: self._runner.store.claimed(job.number))
            if not await self._work_on(earlier, repeated=True):
                return
            cursor: int | None = job.cursor
            while cursor is not None:
                cursor = await self._claim_batch(cursor)
                if self._stopped.is_set():
                    return
            await self._change_state(JobState.COMPLETED)
        finally:
            self.ended.set()

    async def _claim_batch(self, cursor: int) -> int | None:
        """Work on the next executions, and return the cursor after them; None: there are no more."""
        job = self._job
        walk = await self._retrying(
            lambda: self._runner.matching.next(
                self._spec.filter, after_seq=cursor, last_seq=job.last_seq, limit=self._batch
            )
        )
        after = job.last_seq if walk.next_seq is None else walk.next_seq
        executions = [(record.seq, record.id) for record in walk.records]
        claimed = await self._retrying(
            lambda: self._runner.store.claim(
                job.number, executions, cursor=max(cursor, after), now_ms=self._runner.now_ms()
            )
        )
        if claimed is None or not await self._work_on(claimed, repeated=False, cursor=cursor):
            self._stopped.set()  # it was paused or aborted
        return walk.next_seq

    async def _work_on(self, claimed: Sequence[ClaimedItem], *, repeated: bool, cursor: int = 0) -> bool:
        """Perform the action on executions; return whether all of them were taken, else the job was stopped.

        Claims of executions that were not taken are released, unless the action may have been performed on one of them:
        by an earlier run, or by an attempt whose result is not known.
        """
        outcomes: list[JobItem] = []
        taken = 0
        settle_at = self._runner.clock() + SETTLE_SECONDS
        for item in claimed:
            result = await self._perform(item, repeated=repeated)
            if result is None:
                break
            taken += 1
            cursor = item.seq
            outcomes.append(JobItem(item.number, item.execution_id, *result, self._runner.now_ms()))
            if self._runner.clock() >= settle_at:
                await self._settle(outcomes)
                outcomes = []
                settle_at = self._runner.clock() + SETTLE_SECONDS
        await self._settle(outcomes)
        if taken < len(claimed) and not (repeated or self._uncertain):
            await self._retrying(lambda: self._runner.store.release(self._job.number, cursor=cursor))
        return taken == len(claimed)

    async def _perform(self, item: ClaimedItem, *, repeated: bool) -> ItemResult | None:
        """Perform the action on an execution when it is due; None: the job was stopped before."""
        if await self._wait(self._pace.delay(self._runner.clock())):
            return None
        while True:
            try:
                result = await self._runner.actions.perform(self._job.id, self._spec, item, repeated=repeated)
            except (ExhaustedError, UnavailableError) as error:
                self.delay_reason = error.message
                repeated = True
                self._uncertain = isinstance(error, UnavailableError)
                if await self._wait(RETRY_SECONDS):
                    return None
            else:
                self.delay_reason = ""
                self._uncertain = False
                return result

    async def _settle(self, outcomes: Sequence[JobItem]) -> None:
        if outcomes:
            await self._retrying(lambda: self._runner.store.settle(self._job.number, outcomes))

    async def _change_state(self, state: JobState) -> StoredJob | None:
        try:
            return await self._retrying(
                lambda: self._runner.store.change_state(self._job.id, state, now_ms=self._runner.now_ms())
            )
        except ConflictError:
            return None

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                result = await call()
            except UnavailableError as error:
                self.delay_reason = error.message
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.delay_reason = ""
                return result

    async def _wait(self, seconds: float) -> bool:
        """Wait for a time, or until the job is stopped; return whether it is."""
        if seconds > 0 and not self._stopped.is_set():
            await wait_at_most(seconds, self._stopped.wait())
        return self._stopped.is_set()


@attrs.define(eq=False, repr=False, kw_only=True)
class JobRunner:
    """The jobs of the shard."""

    store: JobStore
    matching: MatchingExecutions
    actions: JobActions
    clock: Callable[[], float]  # monotonic, in seconds
    now_ms: Callable[[], int]
    _load_spec: Callable[[bytes, bytes], JobSpec] = load_spec
    _runs: dict[str, JobRun] = attrs.field(init=False, factory=dict)
    _changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    @property
    def running(self) -> int:
        """Number of jobs that run."""
        return len(self._runs)

    def delay_reason(self, job_id: str) -> str:
        """Return why a job makes no progress at this moment; empty: it does, or does not run."""
        run = self._runs.get(job_id)
        return "" if run is None else run.delay_reason

    def notify(self) -> None:
        self._changed.set()

    async def change_state(self, job_id: str, state: JobState) -> StoredJob:
        """Pause a job, let it continue (`PENDING`), or abort it, and return it.

        Returns after the execution that is being worked on, or a second. For errors see `JobStore.change_state`.
        """
        job = await self.store.change_state(job_id, state, now_ms=self.now_ms())
        run = self._runs.get(job_id)
        if run is not None and state is not JobState.PENDING:
            run.stop()
            await wait_at_most(STOP_SECONDS, run.ended.wait())
            job = await self.store.get(job_id) or job
        self.notify()
        return job

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                try:
                    await self._start_jobs(tasks)
                except FlowhookError as error:
                    log.warning("jobs not read; trying again", reason=error.reason)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._changed.wait()

    async def _start_jobs(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the jobs whose turn it is, and settle what aborted ones left behind."""
        for job in await self.store.unended():
            if job.id in self._runs:
                continue
            if job.state.ended:
                await self._abandon(job)
            elif job.state is not JobState.PAUSED and len(self._runs) < MAX_RUNNING:
                data = await self.store.data(job.number) if job.data_bytes else b""
                try:
                    run = JobRun(job, self._load_spec(job.spec, data), self)
                except Exception:
                    log.exception("job not readable; it is paused", job=job.id)
                    await self.store.change_state(job.id, JobState.PAUSED, now_ms=self.now_ms())
                    continue
                self._runs[job.id] = run
                tasks.create_task(self._run(job, run), name=f"job {job.id}")

    async def _run(self, job: StoredJob, run: JobRun) -> None:
        try:
            await run.run()
        except NotFoundError:
            pass  # it was removed: it had ended
        except Exception:
            log.exception("job failed; it is paused", job=job.id)
            with contextlib.suppress(FlowhookError):
                await self.store.change_state(job.id, JobState.PAUSED, now_ms=self.now_ms())
        finally:
            del self._runs[job.id]
            self._changed.set()

    async def _abandon(self, job: StoredJob) -> None:
        """Settle the claims of a job that was aborted while its outcomes were not known."""
        why = "the router ended during this action, or storage failed, and the job was aborted before it was repeated"
        items = [
            JobItem(item.number, item.execution_id, ItemOutcome.SKIPPED, "JOB_ABORTED", why, "", self.now_ms())
            for item in await self.store.claimed(job.number)
        ]
        await self.store.settle(job.number, items)
