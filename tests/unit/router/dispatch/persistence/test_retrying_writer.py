"""Tasks of a host."""

from __future__ import annotations

import asyncio

import pytest

from flowhook.errors import UnavailableError
from router.dispatch.persistence.retrying_writer import RetryingWriter


async def nothing():
    """Do nothing; it is a warning, and so a failure, when this is never awaited and not closed."""


async def failing():
    raise LookupError


async def test_a_host_that_does_not_run_takes_no_work():
    with pytest.raises(UnavailableError):
        RetryingWriter(None, None).spawn(nothing())


async def test_a_host_that_ends_because_it_failed_takes_no_work():
    durable = RetryingWriter(None, None)

    async def run():
        async with asyncio.TaskGroup() as tasks:
            durable.tasks = tasks
            tasks.create_task(failing())
            try:
                await asyncio.Event().wait()
            finally:
                with pytest.raises(UnavailableError):
                    durable.spawn(nothing())

    with pytest.raises(ExceptionGroup):
        await run()
