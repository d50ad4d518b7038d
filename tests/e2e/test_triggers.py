"""What starts flows beside requests works together, and starts each once, whatever is killed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.systems import document, kill, until

from flowhook.errors import UnavailableError
from flowhook.events import ids
from flowhook.model import Status

pytestmark = pytest.mark.e2e

CHAIN = {
    "chain-tick": document(
        "chain-tick",
        schedule="{every: PT1S}",
        do="- tell: {emit: {event: {with: {type: tick, source: /tick, data: {of: '${ $workflow.id }'}}}}}",
    ),
    "chain-tock": document(
        "chain-tock",
        schedule="{on: {one: {with: {type: tick}}}}",
        do="- tell: {emit: {event: {with: {type: tock, source: /tock, data: '${ .[0] }'}}}}",
    ),
    "chain-both": document(
        "chain-both",
        schedule="""
  on:
    all:
      - {with: {type: tick}, correlate: {tick: {from: .data.of}}}
      - {with: {type: tock}, correlate: {tick: {from: .data.of}}}""",
        do="- run: {run: {workflow: {namespace: default, name: chain-end, version: 1.0.0, input: {n: 1}}}}",
    ),
    "chain-end": document("chain-end", do="- keep: {set: {kept: '${ . }'}}"),
}


async def test_every_tick_starts_one_chain_of_flows_although_the_router_is_killed(guarded):
    async def executions(flow):
        with suppress(UnavailableError):
            return await guarded.executions(flow)
        return []

    async def ticked(times):
        return len(await executions("chain-tick")) >= times

    async def settled():
        found = {flow: await executions(flow) for flow in CHAIN}
        ended = all(item.status is Status.COMPLETED for items in found.values() for item in items)
        return ended and len(set(map(len, found.values()))) == 1

    await guarded.apply(*CHAIN.values())
    for times in (1, 2):
        await until(lambda times=times: ticked(times), "it ticks")
        await kill(guarded.cluster, "router-1")
    await until(lambda: ticked(4), "it goes on ticking")
    await guarded.client.flows.delete("chain-tick")
    await until(settled, "every tick has run its chain")
    due = [ids.time_ms_of(item.id) for item in await executions("chain-tick")]
    assert len(set(due)) == len(due) >= 4
    assert {(each - due[0]) % 1000 for each in due} == {0}
