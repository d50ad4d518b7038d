"""An edge with several routers: what senders wait for is finished by the next owner."""

from __future__ import annotations

import asyncio

import pytest
from support.memory_router import MemoryRouter
from support.patience import until
from support.shard_routers import shard_routers

from edge.router.client import RouterClient
from flowhook import limits
from flowhook.client import channel
from flowhook.v1.envelope_pb2 import Reply
from flowhook.v1.rejection_service_pb2 import Rejection


@pytest.fixture
async def router():
    """What all routers have stored."""
    return MemoryRouter()


@pytest.fixture
async def routers(router):
    async with shard_routers(3, router.register) as running:
        yield running
        router.gate.set()


@pytest.fixture
async def edge(start_edge, router, routers):
    router.put_flow("open")
    router.put_flow("quote", respond={"mode": "reply", "timeout": "PT60S"})
    routers.move(0, 1)
    return await start_edge(router=routers.target)


async def test_an_event_on_its_way_to_a_paused_owner_is_stored_by_the_next_one(edge, router, routers):
    router.gate.clear()
    sending = asyncio.create_task(edge.post("/hook/open"))
    await until(lambda: "StreamEvents" in routers[0].calls)
    routers[0].pause()
    router.gate.set()
    routers.move(1, 2)
    answer = await sending
    assert answer.status == 202
    assert "StreamEvents" in routers[1].calls
    assert list(router.stored) == [answer.json()["id"]]


@pytest.mark.parametrize("reason", ["SHARD_LOST", "APPEND_ABANDONED"])
async def test_an_event_that_a_router_was_storing_when_it_lost_the_shard_is_sent_again(edge, router, failure, reason):
    router.reject["open"] = failure(reason)
    sending = asyncio.create_task(edge.post("/hook/open"))
    await until(lambda: router.batches)
    del router.reject["open"]
    assert (await sending).status == 202
    assert len(router.batches) > 1


async def test_events_wait_while_nobody_owns_the_shard(edge, router, routers):
    await edge.post("/hook/open")
    routers.move(0, 1, serving=False)
    sending = [asyncio.create_task(edge.post("/hook/open")) for _ in range(3)]
    routers.move(2, 2, serving=False)
    assert not any(each.done() for each in sending)
    routers.move(2, 2)
    assert [(await each).status for each in sending] == [202] * 3


async def test_a_request_that_is_held_gets_the_reply_from_the_next_owner(edge, router, routers):
    sending = asyncio.create_task(edge.post("/hook/quote"))
    await until(lambda: router.invoked)
    routers[0].pause()
    routers.move(1, 2)
    await until(lambda: len(router.invoked) > 1)
    assert len(set(router.invoked)) == 1
    router.answer(router.invoked[0], reply=Reply(status=200, body=b"done"))
    answer = await sending
    assert (answer.status, answer.body) == (200, b"done")
    assert routers[1].calls.count("InvokeFlow") == 1


async def test_a_reply_is_fetched_from_the_next_owner(edge, router, routers):
    execution_id = (await edge.post("/hook/open")).json()["id"]
    routers[0].pause()
    fetching = asyncio.create_task(edge.post(f"/replies/{execution_id}.mac", body=None, method="GET"))
    routers.move(1, 2)
    assert (await fetching).status == 202
    assert "GetReply" in routers[1].calls


async def test_a_large_body_is_uploaded_to_the_next_owner(start_edge, router, routers):
    router.put_flow("large", max_body="1GiB")
    routers.move(0, 1)
    edge = await start_edge(router=routers.target)
    assert (await edge.post("/hook/large")).status == 202
    routers[0].owns = False  # and does not say so yet
    body = b"x" * (limits.MAX_BODY_BYTES + 1)
    sending = asyncio.create_task(edge.post("/hook/large", body, headers=[("Content-Type", "text/plain")]))
    await until(lambda: "UploadBody" in routers[0].calls)
    routers.move(1, 2)
    assert (await sending).status == 202
    assert list(router.bodies.values()) == [body]


async def test_refused_requests_are_reported_to_the_next_owner(router, routers):
    routers[0].report(1, routers[0].address)
    async with channel.connect(routers.target, "fhk_t") as connection:
        reporting = asyncio.create_task(RouterClient(connection).report([Rejection(id="rej_1")]))
        await until(lambda: routers[0].calls)
        routers.move(1, 2)
        await reporting
    assert [each.id for each in router.rejections] == ["rej_1"]


async def test_flows_are_watched_at_the_next_owner_and_requests_served_meanwhile(edge, router, routers):
    await until(lambda: "WatchFlows" in routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    await until(lambda: "WatchFlows" in routers[1].calls)
    assert edge.lifecycle.ready.is_set()
    router.delete_flow("open")
    while (await edge.post("/hook/open")).status != 404:  # until the watch has reported it
        pass
