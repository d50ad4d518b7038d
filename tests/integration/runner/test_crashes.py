"""Programs that crash the child, not only freeze it: a real runner on a real router, with its real storage."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from support.ends import ended
from support.routers import running_router
from support.served import running_runner

from flowhook.model import Status

SEGMENTATION_FAULT = "reduce range(100000) as $i (0; [.]) | error"
"""Overflows the stack of the jq binding, which is written in C, when it makes a message of so deep an array."""


def document(name, *tasks):
    lines = "\n".join(f"  - {task}" for task in tasks)
    return f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\ndo:\n{lines}\n".encode()


@pytest.fixture
async def client(tmp_path):
    async with (
        running_router(tmp_path) as router,
        running_runner(router, "runner-1"),
        router.client() as client,
    ):
        yield client


async def test_an_expression_that_crashes_faults_the_second_time_and_no_neighbour_is_charged(client, http_server):
    release, calls = asyncio.Event(), []

    async def answer(request):
        calls.append(request.headers["Idempotency-Key"])
        await release.wait()
        return web.json_response({"ok": True})

    call = f"ask: {{call: http, with: {{method: post, endpoint: '{await http_server(answer)}'}}}}"
    crash = f"crash: {{set: {{x: '${{ {SEGMENTATION_FAULT} }}'}}}}"
    await client.flows.apply([document("calls", call), document("crashes", crash)])
    neighbours = [await client.ingest("calls", {}) for _ in range(3)]
    while len(set(calls)) < len(neighbours):
        await asyncio.sleep(0.05)
    culprit = await ended(client, await client.ingest("crashes", {}))
    # the first time it may have been anything that the process did; in quarantine it was nothing else
    assert (culprit.status, culprit.attempts) == (Status.FAULTED, 2)
    assert culprit.error.type.endswith("/expression")
    assert "SIGSEGV" in culprit.error.detail
    release.set()
    for neighbour in [await ended(client, execution_id) for execution_id in neighbours]:
        assert (neighbour.status, neighbour.attempts) == (Status.COMPLETED, 1)
    # each was in flight at every crash; by its key the receiver knows it for the same one
    assert len(set(calls)) == len(neighbours)
