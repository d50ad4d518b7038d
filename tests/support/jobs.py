"""What tests of bulk jobs wait for and read."""

from __future__ import annotations

import asyncio

from support.patience import PATIENCE


async def until(read, condition):
    """Return what `read` returns once it meets a condition."""
    async with asyncio.timeout(PATIENCE):
        while not condition(found := await read()):
            await asyncio.sleep(0.01)
        return found


async def ended(client, job):
    """Return a job when it has ended."""
    return await until(lambda: client.jobs.get(job.id), lambda found: found.state.ended)


async def outcomes(client, job, **conditions):
    """Return the outcomes of a job's executions."""
    return [item async for item in client.jobs.items(job.id, **conditions)]
