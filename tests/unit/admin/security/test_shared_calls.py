"""A call that several need is made once."""

from __future__ import annotations

import asyncio

import pytest

from admin.security.router_clients import SharedCalls


@pytest.fixture
def calls():
    return SharedCalls()


async def test_those_who_need_a_call_at_a_time_share_it(calls):
    made, answers = [], asyncio.Event()

    async def call():
        made.append("call")
        await answers.wait()
        return len(made)

    waiting = [asyncio.create_task(calls.share("a", call)) for _ in range(5)]
    other = asyncio.create_task(calls.share("b", call))
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    answers.set()
    assert await asyncio.gather(*waiting[1:], other) == [2] * 5
    assert await calls.share("a", call) == 3


async def test_all_get_its_error(calls):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError

    results = await asyncio.gather(*(calls.share("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [ValueError] * 3
