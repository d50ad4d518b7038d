"""What a runner says while no router takes it: once, and as much as it takes to see why."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE

from flowhook.errors import UnauthenticatedError
from runner.guard import keeper


@pytest.fixture
def told(monkeypatch):
    warnings = []
    monkeypatch.setattr(keeper.log, "warning", lambda event, **fields: warnings.append((event, fields)))
    return warnings


@pytest.fixture
def refusing(router, told):
    """Has the router refuse a runner three times; before there is one."""
    router.attach_refusals += [UnauthenticatedError("the token is not valid")] * 3


async def test_that_no_router_takes_it_is_told_once_until_one_does(refusing, settings, served, router, told):
    stream = await router.attached()
    await served.lifecycle.ready.wait()
    assert router.attach_refusals == []
    refused = ("not attached; trying again", {"router": settings.router, "detail": "router: UNAUTHENTICATED"})
    assert told == [refused]
    stream.close()
    await router.attached(2)
    async with asyncio.timeout(PATIENCE):
        while len(told) < 2:
            await asyncio.sleep(0)
    assert told[1][1]["detail"] == "router closed the stream"


@pytest.mark.parametrize("settings", [{"drain_seconds": 3600.0}], indirect=True)
async def test_a_runner_that_is_told_to_stop_says_nothing(served, router, told):
    await router.attached()
    await served.stop()
    assert told == []
