"""What is left of the rate limit of a flow, which its router knows, is in the answers of a real edge."""

from __future__ import annotations

import aiohttp
from support.edges import running_edge
from support.routers import running_router

FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: limited, version: 1.0.0}
webhook: {auth: none, rate_limit: {per_second: 0.001, burst: 2}, dedupe: {key: none}}
do: [{keep: {set: '${ .body }'}}]
"""


async def test_answers_say_what_is_left_of_the_rate_of_the_flow(tmp_path):
    found = []
    async with running_router(tmp_path / "data") as router, router.client() as client, running_edge(router) as address:
        await client.flows.apply([FLOW])
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.post(f"http://{address}/hook/limited", json={}) as answer:
                    found.append((answer.status, answer.headers["RateLimit"]))
                    assert answer.headers["RateLimit-Policy"] == '"flow";q=2;w=2000'
    assert [status for status, _ in found] == [202, 202, 429]
    assert [field.partition(";t=")[0] for _, field in found] == ['"flow";r=1', '"flow";r=0', '"flow";r=0']
