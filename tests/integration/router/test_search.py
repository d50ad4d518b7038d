"""Search attributes: made when an event is accepted, by whoever is to make them, and found again."""

from __future__ import annotations

import orjson
import pytest
from support.edge_heads import edge_head
from support.routers import flow
from support.runners import attached

from flowhook.client import ExecutionCount, channel
from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from flowhook.v1.envelope_pb2 import Event, SearchAttribute
from flowhook.wire.status import failure_from_proto

SEARCH = b"execution: {search: {order: .order, paid: '${ .paid }'}}\n"


@pytest.fixture
async def revision(client):
    """Revision of a flow that declares attributes."""
    [applied] = await client.flows.apply([flow("shop", SEARCH)])
    return applied.flow.revision


async def found(client, *attributes, **conditions):
    wanted = ExecutionFilter(attributes=attributes)
    return [each.id async for each in client.executions.list(where=wanted, **conditions)]


async def submit(router, *attributes, flow_id="shop", **fields):
    """Submit an event as an edge does."""
    event = Event(id=ids.mint(ids.slot_of(flow_id)), flow_id=flow_id, **fields)
    event.attributes.extend(SearchAttribute(name=name, value=value) for name, value in attributes)
    async with channel.connect(router.target, router.token("edge")) as connection:
        stub = ingest_service_pb2_grpc.IngestServiceStub(connection)
        response = await stub.IngestEvents(ingest_service_pb2.IngestEventsRequest(events=[event]))
    [result] = response.results
    if result.HasField("rejected"):
        raise failure_from_proto(result.rejected)
    return event.id


async def test_the_attributes_of_a_services_event_are_made_by_the_router(client, revision):
    one = await client.ingest("shop", {"order": 4711, "paid": True})
    two = await client.ingest("shop", {"order": "4711"})
    large = await client.ingest("shop", {"order": 7, "lines": ["x" * 100] * 1000})
    assert await found(client, ("order", "4711")) == [two, one]
    assert await found(client, ("order", "4711"), ("paid", "true")) == [one]
    assert await found(client, ("order", "7")) == [large]
    assert await found(client, ("order", "7"), flow_id="other") == []
    assert (await client.executions.get(one)).attributes == (("order", "4711"), ("paid", "true"))


async def test_the_attributes_that_an_edge_made_by_the_present_revision_count(router, client, revision):
    event = {"head": edge_head("/hook/shop"), "order_key": "", "body": b'{"order": 1}'}
    edges = await submit(router, ("order", "x"), flow_revision=revision, **event)
    assert await found(client, ("order", "x")) == [edges]
    stale = await submit(router, ("order", "y"), flow_revision=revision + 1, **event)
    assert await found(client, ("order", "y")) == []
    assert await found(client, ("order", "1")) == [stale]
    assert not (await client.executions.get(edges)).event.path.startswith("order")


@pytest.mark.parametrize(
    "attributes",
    [[("order", "x"), ("order", "y")], [("order", "x" * 201)], [("", "x")], [(str(n), "x") for n in range(9)]],
)
async def test_attributes_that_no_edge_makes_are_refused(router, client, revision, attributes):
    with pytest.raises(InvalidError) as refusal:
        await submit(router, *attributes, head=edge_head("/hook/shop"), order_key="", flow_revision=revision)
    assert refusal.value.reason == "SEARCH_ATTRIBUTES_INVALID"


async def test_a_flow_that_declares_none_has_none(router, client):
    [applied] = await client.flows.apply([flow("plain")])
    head, revision = edge_head("/hook/plain"), applied.flow.revision
    event = await submit(router, ("order", "x"), flow_id="plain", head=head, order_key="", flow_revision=revision)
    assert (await client.executions.get(event)).attributes == ()
    assert await found(client, ("order", "x")) == []


async def test_a_replay_is_found_by_the_attributes_of_its_original_and_so_is_what_a_flow_starts(
    router, client, revision
):
    original = await client.ingest("shop", {"order": 4711})
    async with attached(router, credit=1) as runner:
        [assignment] = await runner.assignments(1)
        await runner.complete(assignment)
    await client.flows.apply([flow("shop", b"execution: {search: {other: .x}}\n")])
    again = await client.executions.replay(original, ReplayOptions(latest=True))
    assert await found(client, ("order", "4711")) == [again.id, original]


async def test_a_filter_of_too_many_attributes_is_refused(client):
    with pytest.raises(InvalidError) as refusal:
        await found(client, *(("order", str(number)) for number in range(9)))
    assert refusal.value.reason == "FILTER_INVALID"


async def test_the_stored_event_does_not_repeat_its_attributes(router, client, revision):
    body = orjson.dumps({"order": 1})
    given = {"head": edge_head("/h"), "order_key": "", "flow_revision": revision, "body": body}
    event = await submit(router, ("order", "needle"), **given)
    assert await found(client, ("order", "needle")) == [event]
    stored = (await client.executions.get(event)).event
    assert "needle" not in repr(stored)


async def test_executions_are_counted(client, revision):
    for order in (1, 2, 2):
        await client.ingest("shop", {"order": order})
    assert await client.executions.count() == ExecutionCount(3, more=False)
    wanted = ExecutionFilter(flow_id="shop", attributes=(("order", "2"),))
    assert await client.executions.count(wanted) == ExecutionCount(2, more=False)


class TestScans:
    async def test_executions_come_with_their_events_and_how_their_flows_see_these(self, client):
        raw = flow("raw", b"webhook: {auth: none, parse: raw}\n")
        await client.flows.apply([flow("plain"), flow("hooked", b"webhook: {auth: none}\n"), raw, flow("gone")])
        flows = ["plain", "hooked", "raw", "gone"]
        sent = [await client.ingest(each, {"n": number}) for number, each in enumerate(flows)]
        await client.flows.delete("gone")
        page = await client.executions.scan(page_size=3)
        rest = await client.executions.scan(page_token=page.next_page_token)
        found = [*page.items, *rest.items]
        assert (len(page.items), rest.next_page_token) == (3, "")
        assert [each.execution.id for each in found] == sent[::-1]
        assert [orjson.loads(Event.FromString(each.event).body)["n"] for each in found] == [3, 2, 1, 0]
        assert [(each.has_webhook, each.raw) for each in found[1:]] == [(True, True), (True, False), (False, False)]
        again = await client.executions.scan(page_token=found[1].next_page_token)
        assert [each.execution.id for each in again.items] == sent[1::-1]

    async def test_a_page_has_events_of_4_mib_and_none_that_are_stored_apart(self, client):
        await client.flows.apply([flow("plain")])
        sizes = [100, 900_000, 900_000, 2_000_000, 900_000, 900_000, 900_000]
        for size in sizes:
            await client.ingest("plain", b"x" * size, content_type="text/plain")
        page = await client.executions.scan()
        rest = await client.executions.scan(page_token=page.next_page_token)
        lengths = [
            [each.event and len(Event.FromString(each.event).body) for each in one.items] for one in (page, rest)
        ]
        assert lengths == [[900_000, 900_000, 900_000, None, 900_000], [900_000, 100]]
        assert rest.next_page_token == ""
