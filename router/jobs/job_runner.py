"""Runs the jobs that have not ended, a few at a time, while this router owns the shard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from flowhook.errors import FlowhookError, NotFoundError
from flowhook.model.jobs import ItemOutcome, JobItem, JobSpec, JobState
from flowhook.process import logs
from router.jobs.job_run import RETRY_SECONDS, Actions, JobRun, Matching
from router.storage.jobs import JobStore, StoredJob

MAX_RUNNING: Final = 4
"""Jobs that run at a time; the others wait, in the order of their creation."""

STOP_SECONDS: Final = 1.0
"""Longest time that a pause or an abort waits for the execution that is being worked on."""

log = logs.get_logger(__name__)


class JobRunner:
    """The jobs of the shard.

    Args:
        store: where jobs are stored.
        matching: finds their executions.
        actions: performs their actions.
        load_spec: reads what a job does, as stored: its spec and its data.
        clock: seconds, monotonic.
        now_ms: Unix time in milliseconds.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        matching: Matching,
        actions: Actions,
        load_spec: Callable[[bytes, bytes], JobSpec],
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._load_spec = load_spec
        self._now_ms = now_ms
        self._new_run = partial(JobRun, store=store, matching=matching, actions=actions, clock=clock, now_ms=now_ms)
        self._runs: dict[str, JobRun] = {}
        self._changed = asyncio.Event()

    def delay_reason(self, job_id: str) -> str:
        """Return why a job makes no progress at this moment; empty: it does, or does not run."""
        run = self._runs.get(job_id)
        return "" if run is None else run.delay_reason

    def notify(self) -> None:
        """Look for jobs that may begin: one was created, resumed or aborted."""
        self._changed.set()

    async def change_state(self, job_id: str, state: JobState) -> StoredJob:
        """Pause a job, let it continue (`PENDING`), or abort it, and return it.

        Returns after the execution that is being worked on, or a second.

        Raises:
            NotFoundError: there is no such job (`JOB_NOT_FOUND`).
            ConflictError: it has ended (`JOB_ENDED`).
            UnavailableError: storage can't serve.
        """
        job = await self._store.change_state(job_id, state, now_ms=self._now_ms())
        run = self._runs.get(job_id)
        if run is not None and state is not JobState.PENDING:
            run.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await run.ended.wait()
            job = await self._store.get(job_id) or job
        self.notify()
        return job

    async def run(self) -> None:
        """Run jobs until cancelled."""
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
        for job in await self._store.unended():
            if job.id in self._runs:
                continue
            if job.state.ended:
                await self._abandon(job)
            elif job.state is not JobState.PAUSED and len(self._runs) < MAX_RUNNING:
                data = await self._store.data(job.number) if job.data_bytes else b""
                try:
                    run = self._new_run(job, self._load_spec(job.spec, data))
                except Exception:
                    log.exception("job not readable; it is paused", job=job.id)
                    await self._store.change_state(job.id, JobState.PAUSED, now_ms=self._now_ms())
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
                await self._store.change_state(job.id, JobState.PAUSED, now_ms=self._now_ms())
        finally:
            del self._runs[job.id]
            self._changed.set()

    async def _abandon(self, job: StoredJob) -> None:
        """Settle the claims of a job that was aborted while its outcomes were not known."""
        message = (
            "the router ended during this action, or storage failed, and the job was aborted before it was repeated"
        )
        items = [
            JobItem(item.number, item.execution_id, ItemOutcome.SKIPPED, "JOB_ABORTED", message, "", self._now_ms())
            for item in await self._store.claimed(job.number)
        ]
        await self._store.settle(job.number, items)
