"""What flows were told of others by events, and work for a runner until the flow that matters comes."""

from __future__ import annotations

import asyncio

import orjson
from support.patience import PATIENCE

from flowhook.model import Origin
from flowhook.wire import convert


async def inputs(client, flow_id, count):
    """Wait for so many executions of a flow, and return the events that started them, the first one first."""
    async with asyncio.timeout(PATIENCE):
        while len(found := [item async for item in client.executions.list(flow_id=flow_id)]) < count:
            await asyncio.sleep(0.01)
    assert len(found) == count
    events = [(await client.executions.get(item.id)).event for item in reversed(found)]
    assert {event.origin for event in events} == {Origin.EVENTS}
    return [event for each in events for event in orjson.loads(each.body)]


async def next_of(runner, flow_id):
    """Work off what comes until an execution of a flow does."""
    while True:
        await runner.credit(1)
        (assignment,) = await runner.assignments(1)
        if convert.event_from_bytes(assignment.event).flow_id == flow_id:
            return assignment
        await runner.complete(assignment)
