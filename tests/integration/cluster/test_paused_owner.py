"""An owner that is stopped for longer than the others wait, and continues as if it still were the owner."""

from __future__ import annotations

import asyncio
import os
import signal

import nats
import pytest
from support.patience import PATIENCE
from support.replicated_routers import load
from support.routers import flow

from flowhook.errors import UnavailableError
from flowhook.v1 import flow_service_pb2

ROUNDS = int(os.environ.get("FLOWHOOK_PAUSED_OWNER_ROUNDS", "0"))
"""Rounds of the campaign, on three NATS servers, whose leader changes in every other round; the suite does one."""


async def step_down(url):
    """Let another server lead the stream of the log."""
    servers = url.partition("@")[2].partition("?")[0].split(",")
    client = await nats.connect(servers, user="flowhook", password="secret")
    await client.request("$JS.API.STREAM.LEADER.STEPDOWN.PROCESSES_LOG_0", b"", timeout=PATIENCE)
    await client.close()


async def apply(client, flow_id):
    """Apply a flow with the router that the client is connected to, once."""
    request = flow_service_pb2.ApplyFlowsRequest(documents=[flow(flow_id)])
    return await client._transport.call(client.flows._stub.ApplyFlows, request, repeatable=False)


async def test_what_a_paused_owner_writes_when_it_continues_is_refused(processes):
    owner, standby = await processes.roles()
    epoch = (await owner.shard()).owner.epoch
    async with processes.client() as client:
        await client.flows.apply([flow("demo")])
        await client.flows.pause("demo")  # no runner is to get its executions
        async with load(client, "demo") as sent:
            for number in range(ROUNDS or 1):
                async with owner.client() as direct:
                    await apply(direct, "demo")
                    owner.send(signal.SIGSTOP)
                    stale = asyncio.create_task(apply(direct, f"stale-{number}"))
                    if ROUNDS and number % 2:
                        await step_down(processes.url)
                    shard = await standby.serves()
                    owner.send(signal.SIGCONT)
                    with pytest.raises(UnavailableError) as raised:
                        await stale
                assert raised.value.reason in ("SHARD_LOST", "SHARD_MOVED", "ROUTER_UNREACHABLE"), raised.value
                assert shard.owner.epoch > epoch
                epoch, before = shard.owner.epoch, len(sent.ids)
                await owner.follows(standby)
                while len(sent.ids) == before:
                    await asyncio.sleep(0.01)
                owner, standby = standby, owner
        assert not [each.id async for each in client.flows.list() if each.id.startswith("stale")]
        found = [execution.id async for execution in client.executions.list(flow_id="demo")]
    assert len(found) == len(set(found))
    assert set(sent.ids) <= set(found)
