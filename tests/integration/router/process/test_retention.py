"""What a router removes by itself once it is past retention."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router

from flowhook.errors import NotFoundError
from flowhook.events import ids
from router.process.serving import expire_forever
from router.storage.limits import StorageLimits
from router.storage.model import NewEvent
from router.storage.registry import FlowDraft
from router.storage.storage import open_storage


def now_ms():
    return time.time_ns() // 1_000_000


async def test_former_revisions_go_when_they_are_past_and_no_execution_is_of_them(tmp_path):
    storage = await open_storage(tmp_path / "flowhook.db", limits=StorageLimits(revisions=2))
    state, registry = await storage.own(), storage.registry
    for revision in range(1, 6):
        await registry.apply_flows([FlowDraft("hello", b"%d" % revision, b"{}", has_webhook=True)], now_ms=revision)
    await storage.log.append([NewEvent(ids.mint(ids.slot_of("hello")), "hello", 1, now_ms(), b"{}")])
    # once it begins, and then once an hour
    sweeping = asyncio.create_task(
        expire_forever(state, storage.bodies, registry, retention_seconds=0.001, now_ms=now_ms)
    )
    async with asyncio.timeout(PATIENCE):
        while await registry.get_flow("hello", revision=3):
            await asyncio.sleep(0.01)
    sweeping.cancel()
    assert [revision for revision in range(1, 6) if await registry.get_flow("hello", revision=revision)] == [1, 4, 5]
    await storage.close()


async def test_a_revision_that_is_gone_is_not_found(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        with pytest.raises(NotFoundError, match="flow hello has no revision 2"):
            await client.flows.get("hello", revision=2)
