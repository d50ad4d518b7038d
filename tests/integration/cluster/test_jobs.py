"""Bulk jobs when another router takes over."""

from __future__ import annotations

import asyncio
from collections import Counter

from support.patience import PATIENCE
from support.routers import flow

from flowhook.errors import UnavailableError
from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec, JobState
from flowhook.model.replays import ReplayOptions

EVENTS = 30
EDITED = ReplayOptions(body=b'{"edited": true}')


async def reached(client, job, condition):
    """Wait for the progress of a job, while the owner changes, and return the job."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                found = await client.jobs.get(job.id)
            except UnavailableError:
                continue
            if condition(found):
                return found
            await asyncio.sleep(0.01)


async def test_the_next_owner_continues_a_job_and_repeats_nothing(processes):
    await processes.roles()
    async with processes.client() as client:
        await client.flows.apply([flow("jobs")])
        sent = [await client.ingest("jobs", {}) for _ in range(EVENTS)]
        pending = ExecutionFilter(flow_id="jobs", statuses=(Status.PENDING,))
        await reached(
            client, await client.jobs.create(JobSpec(JobAction.CANCEL, pending, rate=1000)), lambda job: job.state.ended
        )
        cancelled = ExecutionFilter(flow_id="jobs", statuses=(Status.CANCELLED,))
        job = await client.jobs.create(JobSpec(JobAction.REPLAY, cancelled, EDITED, rate=10))
        await reached(client, job, lambda job: job.done > 0)
        await processes.move()
        done = await reached(client, job, lambda job: job.state.ended)
        assert (done.state, done.matched, done.done) == (JobState.COMPLETED, EVENTS, EVENTS)
        items = [item async for item in client.jobs.items(job.id)]
        assert [item.execution_id for item in items] == sent
        last = await client.executions.get(items[-1].new_execution_id)
        assert last.event.body == EDITED.body
        replays = Counter([each.replay_of async for each in client.executions.list(where=pending)])
        assert replays == Counter(sent)
