import asyncio
import threading

import pytest
from support.patience import PATIENCE

from flowhook.asyncio_tasks import end_tasks, run_in_daemon, wait_at_most


async def test_tasks_have_ended_when_their_end_is_returned_in_order():
    cleaned_up = asyncio.Event()

    async def clean_up():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.set()

    async def fail():
        raise ValueError("lost")

    tasks = [asyncio.create_task(clean_up()), asyncio.create_task(fail())]
    await asyncio.sleep(0)
    cancelled, failed = await end_tasks(iter(tasks))
    assert cleaned_up.is_set()
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(failed, ValueError)


async def test_what_came_in_time_is_told_from_what_did_not():
    event = asyncio.Event()
    assert not await wait_at_most(0, event.wait())
    event.set()
    assert await wait_at_most(None, event.wait())


async def test_a_wait_is_cancelled_with_its_task():
    waiting = asyncio.create_task(wait_at_most(None, asyncio.Event().wait()))
    await asyncio.sleep(0)
    assert [type(each) for each in await end_tasks([waiting])] == [asyncio.CancelledError]


def test_a_loop_ends_without_what_runs_in_daemon_threads():
    returns, returned = threading.Event(), threading.Event()

    def wait():
        returns.wait()
        returned.set()

    async def give_up():
        assert not await wait_at_most(0.01, asyncio.wrap_future(run_in_daemon(wait)))

    asyncio.run(give_up())
    assert not returned.is_set()
    returns.set()
    assert returned.wait(PATIENCE)


def test_what_a_daemon_thread_returns_or_raises_is_in_its_future():
    assert run_in_daemon(max, 1, 2).result() == 2
    with pytest.raises(ZeroDivisionError):
        run_in_daemon(divmod, 1, 0).result()
