"""Two routers of one name: the newer one ends, or both complain."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs
from support.patience import until

from flowhook.errors import ConflictError
from flowhook.process.process_state import ProcessState
from router.cluster import watches
from router.cluster.watches import refuse_namesake


class Heard:
    """Heartbeats of which only the time of a namesake matters."""

    at = 0.0

    def namesake(self):
        return self.at


@pytest.fixture
def lifecycle():
    return ProcessState(name="router-1", role="router")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(watches, "HEARTBEAT_SECONDS", 0.001)


async def test_a_new_router_whose_name_is_in_use_ends(lifecycle):
    heard = Heard()

    async def serve():
        async with refuse_namesake("router-1", heard, lifecycle):
            heard.at = time.monotonic()
            await lifecycle.stop.wait()

    with pytest.raises(ConflictError) as raised:
        await serve()
    assert raised.value.reason == "ROUTER_NAME_IN_USE"


@pytest.mark.parametrize("ready", [True, False])
async def test_a_router_that_is_ready_or_old_stays_and_complains_once(lifecycle, monkeypatch, ready):
    if ready:
        lifecycle.ready.set()
    else:
        monkeypatch.setattr(watches, "NEW_SECONDS", -60.0)
    heard = Heard()
    with capture_logs() as logged:
        async with refuse_namesake("router-1", heard, lifecycle):
            heard.at = time.monotonic()
            await until(lambda: logged)
            for _ in range(5):
                heard.at = time.monotonic()
                await asyncio.sleep(0.002)
    assert [(entry["log_level"], entry["name"]) for entry in logged] == [("error", "router-1")]
    assert not lifecycle.stop.is_set()


async def test_a_name_that_nobody_else_has_is_fine(lifecycle):
    async with refuse_namesake("router-1", Heard(), lifecycle):
        await asyncio.sleep(0.005)
    assert not lifecycle.stop.is_set()
