"""A program that uses both clients, for the tests that run it where only the client is installed."""

PROGRAM = """
import asyncio, datetime, os, sys
from flowhook import errors
from flowhook.events import ids
from flowhook.client import AsyncClient, Client
from flowhook.model import Status

target, token = sys.argv[1:]
with Client(target, token=token) as client:
    execution_id = client.ingest("hello", {"name": "Ada"}, headers={"X-One": "1"})
    detail = client.executions.get(execution_id)
    assert detail.event.body == b'{"name":"Ada"}', detail
    assert ("x-one", b"1") in detail.event.headers
    age = datetime.datetime.now(datetime.UTC) - detail.execution.received_at
    assert datetime.timedelta(0) <= age < datetime.timedelta(hours=1), age
    assert [each.id for each in client.executions.list(statuses=[Status.PENDING])] == [execution_id]
    assert [each.id for each in client.flows.list()] == ["hello"]
    try:
        client.ingest("nobody", {})
    except errors.NotFoundError as error:
        assert error.reason == "FLOW_NOT_FOUND"
    else:
        sys.exit("a flow that is not there")
    try:
        client.flows.apply([b"do: 1"])
    except errors.InvalidFlowError as error:
        assert error.faults
    else:
        sys.exit("a file that is none")


async def main():
    async with AsyncClient(target, token=token) as client:
        event_id = ids.mint(ids.slot_of("hello"))
        assert await client.ingest("hello", {}, event_id=event_id) == event_id


asyncio.run(main())
print("done")
"""
