"""Responses while the router is unavailable, overloaded, or refuses an event."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE
from support.problems import refusal


@pytest.fixture(autouse=True)
async def flows(router, hmac_auth):
    router.put_flow("open")
    router.put_flow("signed", auth=hmac_auth)
    router.put_flow("deep", subpaths=True)


@pytest.mark.parametrize("reason", ["RATE_LIMITED", "BACKLOG_FULL"])
async def test_a_limit_of_the_flow_is_429(edge, failure, reason):
    edge.router.reject["open"] = failure(reason, retry_after=7)
    answer = await edge.post("/hook/open")
    assert refusal(answer) == (429, reason)
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("reason", ["STORAGE_FULL", "STORAGE_UNAVAILABLE", "TOTAL_BACKLOG_FULL"])
async def test_what_is_away_or_full_is_503(edge, failure, reason):
    edge.router.reject["open"] = failure(reason)
    answer = await edge.post("/hook/open")
    assert refusal(answer) == (503, reason)
    assert answer.headers["retry-after"] == "1"


async def test_a_flow_that_the_router_does_not_know_any_more_is_404_and_forgotten(edge, failure):
    await edge.post("/hook/open")
    edge.router.reject["open"] = failure("FLOW_NOT_FOUND", retryable=False)
    assert refusal(await edge.post("/hook/open")) == (404, "FLOW_NOT_FOUND")
    edge.router.lookups.clear()
    await edge.post("/hook/open")
    assert edge.router.lookups == ["open"]


async def test_an_event_that_the_router_refuses_for_good_is_500(edge, failure):
    edge.router.reject["open"] = failure("EVENT_ID_INVALID", retryable=False)
    assert refusal(await edge.post("/hook/open")) == (500, "NOT_STORED")


async def test_a_router_that_says_nothing_in_time_is_503(start_edge, router):
    edge = await start_edge(router_timeout=0.2)
    router.gate.clear()
    answer = await edge.post("/hook/open")
    assert refusal(answer) == (503, "ROUTER_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


async def test_a_router_that_is_away_for_longer_than_what_is_cached_may_be_used_is_waited_for(start_edge, router):
    edge = await start_edge()
    assert (await edge.post("/hook/open")).status == 202
    await router.stop()
    async with asyncio.timeout(PATIENCE):
        while edge.lifecycle.ready.is_set():
            await asyncio.sleep(0.05)
    waiting = asyncio.create_task(edge.post("/hook/open"))
    await asyncio.wait({waiting}, timeout=3.5)
    assert not waiting.done()
    await router.start()
    assert (await waiting).status == 202


async def test_more_requests_than_may_wait_are_503(start_edge, router):
    edge = await start_edge(max_pending_events=1)
    router.gate.clear()
    waiting = asyncio.create_task(edge.post("/hook/open"))
    await router.arrived.wait()
    assert refusal(await edge.post("/hook/open")) == (503, "ROUTER_UNAVAILABLE")
    router.gate.set()
    assert (await waiting).status == 202


async def test_without_a_router_an_unknown_flow_is_503_and_not_404(start_edge, router):
    await router.stop()
    edge = await start_edge(wait_ready=False, router_timeout=0.2)
    answer = await edge.post("/hook/open")
    assert refusal(answer) == (503, "ROUTER_UNAVAILABLE")
    assert not edge.lifecycle.ready.is_set()
