import asyncio

from flowhook.asyncio_tasks import end_tasks, wait_at_most


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
