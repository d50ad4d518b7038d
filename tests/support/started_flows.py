"""Events that started executions, and the assignment of a certain flow."""

from __future__ import annotations

import asyncio

import orjson
from support.patience import PATIENCE

from flowhook.model import Origin
from flowhook.wire import convert


async def starting_events(client, flow_id, count):
    """Wait for `count` executions of a flow, and return the events that started them, in order."""
    async with asyncio.timeout(PATIENCE):
        while len(found := [item async for item in client.executions.list(flow_id=flow_id)]) < count:
            await asyncio.sleep(0.01)
    assert len(found) == count
    events = [(await client.executions.get(item.id)).event for item in reversed(found)]
    assert {event.origin for event in events} == {Origin.EVENTS}
    return [event for each in events for event in orjson.loads(each.body)]


async def next_assignment(runner, flow_id):
    """Complete the executions of other flows until one of this flow is assigned; return its assignment."""
    while True:
        await runner.credit(1)
        (assignment,) = await runner.assignments(1)
        if convert.event_from_bytes(assignment.event).flow_id == flow_id:
            return assignment
        await runner.complete(assignment)
