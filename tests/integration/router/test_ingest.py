"""Accepting events: limits, duplicates, and waiting for the end."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from support.routers import flow, running_router
from support.runners import attached

from flowhook.client import ExecutionFailedError, channel
from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.model import Status
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import IngestEventsRequest
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.wire import convert


def of_the_same_slot(flow_id):
    """A flow whose event IDs may be those of another one: one in 256 is."""
    names = (f"other-{number}" for number in itertools.count())
    return next(name for name in names if ids.slot_of(name) == ids.slot_of(flow_id))


@pytest.fixture
async def hello(client):
    await client.flows.apply([flow("hello")])


async def test_an_event_is_ingested_and_its_execution_found(client, hello):
    execution_id = await client.ingest("hello", {"a": 1}, headers=[("X-One", "1")])
    detail = await client.executions.get(execution_id)
    assert detail.execution.status is Status.PENDING
    assert (detail.event.body, detail.event.content_type) == (b'{"a":1}', "application/json")
    assert ("x-one", b"1") in detail.event.headers
    assert ids.slot_of_event(execution_id) == ids.slot_of("hello")


async def test_an_unknown_flow_is_not_found(client):
    with pytest.raises(NotFoundError) as caught:
        await client.ingest("nobody", {})
    assert caught.value.reason == "FLOW_NOT_FOUND"


async def test_the_same_event_id_makes_one_execution(client, hello):
    event_id = ids.mint(ids.slot_of("hello"))
    first, second = await asyncio.gather(*(client.ingest("hello", {}, event_id=event_id) for _ in range(2)))
    assert first == second == event_id
    assert len([execution async for execution in client.executions.list(flow_id="hello")]) == 1


async def test_the_same_dedupe_key_makes_one_execution_and_names_the_first(client, hello):
    first, second = await asyncio.gather(*(client.ingest("hello", {}, dedupe_key="k") for _ in range(2)))
    third = await client.ingest("hello", {}, dedupe_key="other")
    assert first == second != third


async def test_an_event_id_that_another_flow_has_is_refused_and_loses_no_event_silently(client, hello):
    other = of_the_same_slot("hello")
    await client.flows.apply([flow(other)])
    event_id = await client.ingest("hello", {})
    with pytest.raises(InvalidError, match="of another flow") as caught:
        await client.ingest(other, {}, event_id=event_id)
    assert caught.value.reason == "EVENT_ID_TAKEN"
    assert await client.ingest("hello", {}, event_id=event_id) == event_id
    assert [execution.flow_id async for execution in client.executions.list()] == ["hello"]


async def test_an_event_id_that_is_not_ours_is_refused(client, hello):
    with pytest.raises(InvalidError) as caught:
        await client.ingest("hello", {}, event_id="evt_nonsense")
    assert caught.value.reason == "EVENT_ID_INVALID"


async def test_an_event_id_that_was_made_for_another_flow_is_refused(client, hello):
    with pytest.raises(InvalidError, match="generated for another flow") as caught:
        await client.ingest("hello", {}, event_id=ids.mint(ids.slot_of("hello") ^ 1))
    assert caught.value.reason == "EVENT_ID_INVALID"


async def test_the_backlog_of_a_flow_is_bounded(client):
    await client.flows.apply([flow("small", b"execution: {max_backlog: 2}\n")])
    await client.ingest("small", {})
    await client.ingest("small", {})
    with pytest.raises(ExhaustedError) as caught:
        await client.ingest("small", {})
    assert (caught.value.reason, caught.value.retry_after) == ("BACKLOG_FULL", 5)


async def test_the_backlog_of_all_flows_is_bounded(tmp_path):
    async with running_router(tmp_path, total_backlog=1) as router, router.client() as client:
        await client.flows.apply([flow("a"), flow("b")])
        await client.ingest("a", {})
        with pytest.raises(UnavailableError) as caught:
            await client.ingest("b", {})
        assert caught.value.reason == "TOTAL_BACKLOG_FULL"


async def test_the_rate_of_a_flow_is_bounded(client):
    await client.flows.apply([flow("slow", b"webhook: {auth: none, rate_limit: {per_second: 0.01, burst: 2}}\n")])
    await client.ingest("slow", {})
    await client.ingest("slow", {})
    with pytest.raises(ExhaustedError) as caught:
        await client.ingest("slow", {})
    assert caught.value.reason == "RATE_LIMITED"
    assert 1 < caught.value.retry_after <= 100


@pytest.mark.parametrize(
    "limit", [b"execution: {max_backlog: 1}\n", b"webhook: {auth: none, rate_limit: {per_second: 0.01, burst: 1}}\n"]
)
async def test_no_limit_is_in_the_way_of_an_event_that_was_stored_before(client, limit):
    """An edge repeats a batch when its answer was lost, for example when the router was restarted meanwhile."""
    await client.flows.apply([flow("small", limit), flow(other := of_the_same_slot("small"))])
    event_id = await client.ingest("small", {})
    with pytest.raises(ExhaustedError):
        await client.ingest("small", {})
    assert await client.ingest("small", {}, event_id=event_id) == event_id
    elsewhere = await client.ingest(other, {})
    with pytest.raises(ExhaustedError):
        await client.ingest("small", {}, event_id=elsewhere)


async def test_an_event_that_was_stored_before_its_flow_was_deleted_is_accepted_again(client, hello):
    event_id = await client.ingest("hello", {})
    await client.flows.delete("hello")
    with pytest.raises(NotFoundError):
        await client.ingest("hello", {})
    assert await client.ingest("hello", {}, event_id=event_id) == event_id


async def test_invoke_waits_for_the_output(router, client, hello):
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(client.invoke("hello", {"a": 1}))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b'{"done":true}')
        reply = await invoking
    assert (reply.status, reply.body) == (200, b'{"done":true}')


async def test_invoke_attaches_again_to_one_that_has_ended(router, client, hello):
    event_id = ids.mint(ids.slot_of("hello"))
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(client.invoke("hello", {}, event_id=event_id))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b"1")
        await invoking
    assert (await client.invoke("hello", {}, event_id=event_id)).body == b"1"


async def test_invoke_does_not_attach_to_an_execution_of_another_flow(router, client, hello):
    await client.flows.apply([flow(other := of_the_same_slot("hello"))])
    event_id = ids.mint(ids.slot_of("hello"))
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(client.invoke("hello", {}, event_id=event_id))
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b'"private"')
        await invoking
    with pytest.raises(InvalidError, match="of another flow") as caught:
        await client.invoke(other, {}, event_id=event_id)
    assert caught.value.reason == "EVENT_ID_TAKEN"


async def test_invoke_reports_why_an_execution_faulted(router, client, hello):
    async with attached(router, credit=1) as runner:
        invoking = asyncio.create_task(client.invoke("hello", {}))
        (assignment,) = await runner.assignments(1)
        await runner.settle(
            pb.Outcome(lease=assignment.lease, faulted={"type": "about:blank", "status": 500, "title": "no"})
        )
        with pytest.raises(ExecutionFailedError):
            await invoking


async def test_a_large_body_comes_back_byte_for_byte(router, client, hello):
    body = bytes(range(256)) * 8192
    execution_id = await client.ingest("hello", body, content_type="application/octet-stream")
    assert (await client.executions.get(execution_id)).event.body == body
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        assert body in assignment.event


async def test_a_full_disk_refuses_events_and_loses_none(tmp_path):
    async with running_router(tmp_path, storage_max_bytes=2_000_000) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        accepted = []
        with pytest.raises(UnavailableError) as caught:
            await fill(client, accepted)
        assert caught.value.reason == "STORAGE_FULL"
        assert accepted
        found = {execution.id async for execution in client.executions.list()}
        assert found == set(accepted)
        async with attached(router, credit=len(accepted)) as runner:
            for assignment in await runner.assignments(len(accepted)):
                await runner.complete(assignment)


async def fill(client, accepted):
    for _ in range(200):
        execution_id = await client.ingest("hello", {"pad": "x" * 50_000})
        accepted.append(execution_id)


@pytest.mark.parametrize("hours", [-48, 48])
async def test_a_window_of_dedupe_is_the_routers_whatever_the_clock_of_an_edge_shows(router, client, hello, hours):
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = IngestServiceStub(connection)

        async def ingest(seconds):
            event = Event(
                id=ids.mint(ids.slot_of("hello")),
                flow_id="hello",
                receive_time=convert.timestamp(int((time.time() + seconds) * 1000)),
                dedupe_key="delivery-1",
                content_type="application/json",
                body=b"{}",
            )
            response = await stub.IngestEvents(IngestEventsRequest(events=[event]))
            return event.id, response.results[0]

        first, _ = await ingest(0)
        _, again = await ingest(hours * 3600)
        assert (again.accepted.execution_id, again.accepted.duplicate) == (first, True)
        _, later = await ingest(0)
        assert (later.accepted.execution_id, later.accepted.duplicate) == (first, True)
