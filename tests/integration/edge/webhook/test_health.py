"""Health checks at the port of senders."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import PATIENCE


async def ask(edge, method, target):
    sender = await edge.connect()
    return await sender.request(method, target)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_edge_that_serves_says_so_in_one_word(edge, method):
    for target, word in (("/healthz", b"ok\n"), ("/readyz", b"ready\n"), ("/readyz?verbose", b"ready\n")):
        answer = await ask(edge, method, target)
        assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else word)


async def test_an_edge_without_a_router_is_alive_and_not_ready_and_says_no_more(start_edge, router):
    await router.stop()
    edge = await start_edge(wait_ready=False)
    assert (await ask(edge, "GET", "/healthz")).status == 200
    answer = await ask(edge, "GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"unready\n")


async def test_an_edge_that_drains_is_not_ready(edge):
    sender = await edge.connect()
    assert (await sender.request("GET", "/readyz")).status == 200
    edge.lifecycle.stop.set()
    # the connection that is open is closed, and no other one is accepted
    await asyncio.wait_for(edge.task, PATIENCE)
    assert edge.lifecycle.lack() == "draining"


async def test_they_can_be_elsewhere_or_nowhere(start_edge):
    elsewhere = await start_edge(health_path="/_edge/")
    assert (await ask(elsewhere, "GET", "/_edge/readyz")).status == 200
    assert (await ask(elsewhere, "GET", "/readyz")).status == 404
    nowhere = await start_edge(health_path="")
    for target in ("/healthz", "/readyz", "healthz"):
        assert (await ask(nowhere, "GET", target)).status in (400, 404)


@pytest.mark.usefixtures("open_flow")
async def test_nothing_else_is_there(edge):
    assert (await edge.post("/healthz")).status == 404
    assert (await ask(edge, "GET", "/healthz/")).status == 404
    assert (await edge.post("/hook/open")).status == 202
