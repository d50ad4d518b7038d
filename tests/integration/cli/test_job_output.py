"""Following a job while its router restarts."""

from __future__ import annotations

import asyncio

from support.jobs import until
from support.routers import flow, running_router

from cli.job_output import follow
from flowhook.client import Client
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec, JobState


async def test_a_job_is_followed_across_a_restart_of_the_router(tmp_path, capsys):
    spec = JobSpec(JobAction.CANCEL, ExecutionFilter(flow_id="hello"), rate=5)
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        for _ in range(4):
            await client.ingest("hello", {})
        job = await client.jobs.create(spec)
        blocking = Client(router.target, token=router.token(), timeout=0.2)
        following = asyncio.create_task(asyncio.to_thread(follow, blocking, job))
        await until(lambda: client.jobs.get(job.id), lambda found: found.done >= 1)
    said = ""

    async def printed():
        nonlocal said
        said += capsys.readouterr().err
        return said

    await until(printed, lambda text: "trying again" in text)
    async with running_router(tmp_path, grpc_port=int(router.target.rpartition(":")[2])):
        done = await following
    blocking.close()
    assert (done.state, done.done) == (JobState.COMPLETED, 4)
    assert (await printed()).endswith("completed, 4 of 4: 4 done, 0 skipped, 0 failed\n")
