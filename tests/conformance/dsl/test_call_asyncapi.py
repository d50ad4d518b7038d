"""`call: asyncapi`, published and consumed by whole documents over a NATS server.

Source: dsl-reference.md, "AsyncAPI Call", "AsyncAPI Subscription".
"""

from __future__ import annotations

import asyncio

import nats
import pytest
from aiohttp import web
from support.asyncapi_documents import document
from support.http_servers import http_server
from support.nats_servers import nats_server

LOGIN = "{basic: {username: flowhook, password: secret}}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def described(broker):
    """Serve a document about subjects that a stream stores."""

    async def answer(_request):
        return web.json_response(document(broker.address, "nats", address="orders.paid"))

    client = await nats.connect(f"nats://{broker.address}", user="flowhook", password="secret")
    await client.jetstream().add_stream(name="orders", subjects=["orders.>"])
    async with http_server(answer) as url:
        yield f"document: {{endpoint: '{url}/'}}, protocol: nats, authentication: {LOGIN}"
    await client.jetstream().delete_stream("orders")
    await client.close()


async def test_what_one_flow_publishes_another_one_consumes(run, described, broker):
    follow = f"""
do:
  - follow:
      call: asyncapi
      with:
        {{{described}, operation: follow, subscription: {{
          filter: .payload.order > 1,
          consume: {{until: '${{ $context.total >= 5 }}', for: {{seconds: 60}}}},
          foreach: {{
            item: message,
            do: [{{note: {{set: {{seen: '${{ $message.payload.order }}'}}}}}}],
            output: {{as: .seen}},
            export: {{as: '${{ {{total: (($context.total // 0) + $message.payload.order)}} }}'}}}}}}}}
"""
    announce = f"""
do:
  - announce:
      for: {{each: order, in: '${{ .orders }}'}}
      do:
        - publish:
            call: asyncapi
            with: {{{described}, operation: announce, message: {{payload: {{order: '${{ $order }}'}}}}}}
            output: {{as: .stream}}
"""
    following = asyncio.ensure_future(run(follow, {}))
    client = await nats.connect(f"nats://{broker.address}", user="flowhook", password="secret")
    while not following.done() and not await client.jetstream().consumers_info("orders"):
        await asyncio.sleep(0.01)
    assert not following.done(), (await following).step
    assert (await run(announce, {"orders": [1, 2, 3, 4]})).output == "orders"
    assert (await following).output == [2, 3]
    assert await client.jetstream().consumers_info("orders") == []
    await client.close()
