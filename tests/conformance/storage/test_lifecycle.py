"""Opening, owning, closing."""

import asyncio

import pytest

from flowhook.errors import UnavailableError


async def test_a_new_storage_is_healthy_and_empty(cluster):
    assert not await cluster.storage.lack()
    assert await cluster.state.unfinished() == []
    assert await cluster.registry.revision() == 0
    assert await cluster.registry.changes(after_revision=0) == []


async def test_closing_finishes_what_is_under_way(cluster, new_event):
    appends = [asyncio.ensure_future(cluster.append(new_event())) for _ in range(20)]
    await asyncio.sleep(0)
    await cluster.storage.close()
    assert sorted(await asyncio.gather(*appends)) == [[number] for number in range(1, 21)]
    await cluster.start()
    assert len(await cluster.state.unfinished()) == 20


async def test_closing_twice_and_at_once_is_fine(cluster):
    await asyncio.gather(cluster.storage.close(), cluster.storage.close())
    await cluster.storage.close()


async def test_everything_is_refused_once_closed(cluster, new_event, draft):
    await cluster.storage.close()
    assert await cluster.storage.lack()
    calls = [
        cluster.log.append([new_event()]),
        cluster.state.unfinished(),
        cluster.state.expire(ended_before_ms=1),
        cluster.end(1),
        cluster.registry.apply_flows([draft()], now_ms=1),
        cluster.registry.list_flows(),
        cluster.storage.own(),
    ]
    for call in calls:
        with pytest.raises(UnavailableError) as raised:
            await call
        assert raised.value.reason == "STORAGE_UNAVAILABLE"
