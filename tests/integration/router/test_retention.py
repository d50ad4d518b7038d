"""What a router removes by itself once it is past retention."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router

from flowhook import limits
from flowhook.errors import NotFoundError


async def test_former_revisions_go_when_they_are_past_and_no_execution_is_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "KEPT_REVISIONS", 2)
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        await client.ingest("hello", b"{}")
        for revision in range(2, 6):
            await client.flows.apply([flow("hello") + b"# revision %d\n" % revision])
    # once a router begins, and then once an hour
    async with running_router(tmp_path / "data", retention_seconds=0.001) as router, router.client() as client:
        async with asyncio.timeout(PATIENCE):
            while await _has(client, 3):
                await asyncio.sleep(0.01)
        assert [revision for revision in range(1, 6) if await _has(client, revision)] == [1, 4, 5]
        with pytest.raises(NotFoundError, match="flow hello has no revision 2"):
            await client.flows.get("hello", revision=2)


async def _has(client, revision):
    try:
        return (await client.flows.get("hello", revision=revision)).revision == revision
    except NotFoundError:
        return False
