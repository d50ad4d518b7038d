"""Following a job while its router restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.jobs import until
from support.routers import flow, running_router

from cli.commands.jobs import follow
from cli.operation_commands import open_operator
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import JobAction, JobSpec
from operations.table import GET_JOB


def followed(router, job_id):
    """Follow a job with a client that soon gives up."""
    with open_operator(router.target, Path(router.settings.data_dir)) as operator:
        operator.client._transport.timeout = 0.2
        return follow(operator, operator.shown(GET_JOB, job_id=job_id))


async def test_a_job_is_followed_across_a_restart_of_the_router(tmp_path, capsys):
    spec = JobSpec(JobAction.CANCEL, ExecutionFilter(flow_id="hello"), rate=5)
    async with running_router(tmp_path) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        for _ in range(4):
            await client.ingest("hello", {})
        job = await client.jobs.create(spec)
        following = asyncio.create_task(asyncio.to_thread(followed, router, job.id))
        await until(lambda: client.jobs.get(job.id), lambda found: found.done >= 1)
    said = ""

    async def printed():
        nonlocal said
        said += capsys.readouterr().err
        return said

    await until(printed, lambda text: "trying again" in text)
    async with running_router(tmp_path, grpc_port=int(router.target.rpartition(":")[2])):
        done = await following
    assert (done["state"], done["done"]) == ("completed", 4)
    assert (await printed()).endswith("completed, 4 of 4: 4 done, 0 skipped, 0 failed\n")
