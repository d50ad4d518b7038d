"""Bulk jobs on a cluster whose router is killed with -9: each execution is taken exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support.systems import document, kill, running_system, until

from flowhook.errors import UnavailableError
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import ItemOutcome, JobAction, JobSpec, JobState

pytestmark = pytest.mark.e2e

EXECUTIONS = 500
UNRESOLVED = ExecutionFilter(flow_id="broken", unresolved=True)


async def count(system, where):
    return sum([1 async for _ in system.client.executions.list(where=where)])


async def progress(system, job, condition, what):
    """Wait for the progress of a job, while its router may be away, and return the job."""

    async def look():
        try:
            found = await system.client.jobs.get(job.id)
        except UnavailableError:
            return None
        return found if condition(found) else None

    return await until(look, what)


async def test_a_replay_of_500_is_continued_after_kills_and_one_is_aborted_half_way():
    async with running_system() as system:
        await system.apply(document("broken", do="- add: {set: {sum: '${ .body + 1 }'}}"))
        sent = await asyncio.gather(*(system.client.ingest("broken", {"n": n}) for n in range(EXECUTIONS)))
        await until(lambda: _all_faulted(system), "all have faulted")
        job = await system.client.jobs.create(JobSpec(JobAction.REPLAY, UNRESOLVED, rate=400))
        for reached in (50, 200):
            await progress(system, job, lambda found, reached=reached: found.done >= reached, f"{reached} are done")
            await kill(system.cluster, "router-1")
        done = await progress(system, job, lambda found: found.state.ended, "the job has ended")
        assert (done.state, done.matched, done.done) == (JobState.COMPLETED, EXECUTIONS, EXECUTIONS)
        items = [item async for item in system.client.jobs.items(job.id)]
        assert sorted(item.execution_id for item in items) == sorted(sent)
        assert {item.outcome for item in items} == {ItemOutcome.DONE}
        replays = Counter([each.replay_of async for each in system.client.executions.list(flow_id="broken")])
        assert replays.pop("") == EXECUTIONS
        assert replays == Counter(sent)

        await until(lambda: _all_faulted(system), "all replays have faulted")
        again = await system.client.jobs.create(JobSpec(JobAction.RESOLVE, UNRESOLVED, rate=50))
        await progress(system, again, lambda found: found.done >= 25, "a part is done")
        aborted = await system.client.jobs.abort(again.id)
        assert aborted.state is JobState.ABORTED
        assert 25 <= aborted.done == aborted.matched < EXECUTIONS
        assert await count(system, UNRESOLVED) == EXECUTIONS - aborted.done


async def _all_faulted(system):
    return await count(system, UNRESOLVED) == EXECUTIONS
