"""Work that waits for a router is ended once the router hangs, not while it is only slow."""

from __future__ import annotations

import asyncio

import pytest

from admin.console.page import until_router_hangs
from flowhook.errors import NotFoundError, PermissionDeniedError, UnavailableError


class Router:
    """A client of a router, which answers with `error` or, without one, after the work's end; it counts the calls."""

    def __init__(self, error=None):
        self.cluster, self.error, self.calls = self, error, 0

    async def processes(self, *, metrics):
        self.calls += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


async def never(ended):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)


async def test_work_that_waits_for_a_hung_router_is_cancelled():
    ended = []
    router = Router(UnavailableError("the router did not answer", reason="ROUTER_TIMEOUT"))
    with pytest.raises(UnavailableError, match="did not answer"):
        await until_router_hangs(never(ended), router, patience=0)
    assert (ended, router.calls) == ([True], 1)


@pytest.mark.parametrize("error", [None, PermissionDeniedError("no", reason="SCOPE_MISSING")])
async def test_slow_work_is_awaited_while_the_router_answers(error):
    router = Router(error)

    async def work():
        while router.calls < 3:
            await asyncio.sleep(0)

    await until_router_hangs(work(), router, patience=0)
    assert router.calls == 3


async def test_quick_work_asks_nothing_and_its_error_is_raised():
    async def work():
        raise NotFoundError("there is no such flow")

    router = Router()
    with pytest.raises(NotFoundError):
        await until_router_hangs(work(), router)
    assert router.calls == 0


async def test_who_waits_is_cancelled_with_the_work():
    ended = []
    waiting = asyncio.create_task(until_router_hangs(never(ended), Router(), patience=0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [True]
