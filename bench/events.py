"""Ingests events in batches, as edges do, and waits for their executions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Final

from flowhook.client import AsyncClient
from flowhook.client.channel import connect
from flowhook.events import ids
from flowhook.model import Event, Execution, Status
from flowhook.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.wire import convert

BATCH: Final = 250
"""Events in one call."""

POLL: Final = 1.0
"""Interval in seconds of polling for the end of all executions: five times a second, it took 4 % of a router's loop."""

UNFINISHED: Final = (Status.PENDING, Status.RUNNING, Status.WAITING, Status.SUSPENDED)
PADDING: Final = "x" * 800


def payload() -> bytes:
    """Return a JSON body of about 1 KB."""
    event = {
        "action": "opened",
        "number": 42,
        "repository": {"full_name": "octo/hello", "private": False},
        "sender": {"login": "octocat", "id": 1},
        "pad": PADDING,
    }
    return json.dumps(event).encode()


async def ingest(target: str, token: str, flow_id: str, number: int) -> None:
    """Ingest events, one batch after another.

    Args:
        target: `host:port` of the router.
        token: with the scope of edges.
        flow_id: of the events.
        number: of events; rounded down to whole batches.

    Raises:
        RuntimeError: one of them was not accepted.
    """
    body, slot = payload(), ids.slot_of(flow_id)
    channel = connect(target, token)
    stub = ingest_service_pb2_grpc.IngestServiceStub(channel)
    try:
        for _ in range(number // BATCH):
            now_ms = time.time_ns() // 1_000_000
            events = [
                convert.event_to_proto(
                    Event(ids.mint(slot), flow_id, now_ms, None, "", "POST", "", "", "application/json", (), body)
                )
                for _ in range(BATCH)
            ]
            response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=events))
            refused = [result.rejected for result in response.results if not result.HasField("accepted")]
            if refused:
                raise RuntimeError(f"{len(refused)} of {BATCH} events were refused, for example {refused[0]}")
    finally:
        await channel.close(None)


async def until_ended(client: AsyncClient, flow_id: str, *, within: float) -> None:
    """Wait for the executions of a flow to end.

    Raises:
        RuntimeError: they took longer than `within` seconds.
    """
    try:
        async with asyncio.timeout(within):
            while [each async for each in client.executions.list(flow_id=flow_id, statuses=UNFINISHED, limit=1)]:
                await asyncio.sleep(POLL)
    except TimeoutError:
        left = await count(client.executions.list(flow_id=flow_id, statuses=UNFINISHED))
        raise RuntimeError(f"{left} executions of {flow_id} did not end within {within:.0f} s") from None


async def ended(client: AsyncClient, flow_id: str, *, within: float) -> list[Execution]:
    """Wait for the executions of a flow to end, and return them.

    Raises:
        RuntimeError: one did not complete, or they took longer than `within` seconds.
    """
    executions: list[Execution] = []
    # events that were under way when their sender left are accepted after the last execution seemed to have ended
    while not executions or any(each.status in UNFINISHED for each in executions):
        await until_ended(client, flow_id, within=within)
        executions = [each async for each in client.executions.list(flow_id=flow_id)]
    broken = [each for each in executions if each.status is not Status.COMPLETED]
    if broken:
        raise RuntimeError(f"{len(broken)} executions of {flow_id} did not complete, for example {broken[0]}")
    return executions


async def count(executions: AsyncIterator[Execution]) -> int:
    """Return the number of executions."""
    return sum([1 async for _ in executions])
