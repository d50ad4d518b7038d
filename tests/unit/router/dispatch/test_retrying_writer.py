"""Tasks of a host."""

from __future__ import annotations

import asyncio

import pytest

from flowhook.errors import UnavailableError
from router.dispatch.state_writer import RetryingWriter


async def nothing():
    """Do nothing; it is a warning, and so a failure, when this is never awaited and not closed."""


async def failing():
    raise LookupError


async def test_a_host_that_does_not_run_takes_no_work():
    with pytest.raises(UnavailableError):
        RetryingWriter(None, None).spawn(nothing())


async def test_a_host_that_ends_because_it_failed_takes_no_work():
    writer = RetryingWriter(None, None)

    async def run():
        async with writer.running() as tasks:
            tasks.create_task(failing())
            try:
                await asyncio.Event().wait()
            finally:
                with pytest.raises(UnavailableError):
                    writer.spawn(nothing())

    with pytest.raises(ExceptionGroup):
        await run()


async def test_tasks_are_accepted_while_it_runs_and_waited_for_at_the_end():
    writer = RetryingWriter(None, None)
    gate, done = asyncio.Event(), []

    async def work():
        await gate.wait()
        done.append(writer.is_open)

    async with writer.running():
        assert writer.is_open
        writer.spawn(work())
        writer.close()
        assert (writer.is_open, writer.is_running) == (False, True)
        gate.set()
    assert (done, writer.is_running) == ([False], False)
