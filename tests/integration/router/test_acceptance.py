"""What is counted while it is being stored, and what callers that wait or come back get, when limits are reached."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from structlog.testing import capture_logs
from support.routers import flow, running_router
from support.runners import attached
from support.shards import running_host

from flowhook import limits
from flowhook.client import channel
from flowhook.document.loader import canonical, parse
from flowhook.errors import ExhaustedError
from flowhook.events import ids
from flowhook.model import Event, Status
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import ingest_service_pb2 as pb
from flowhook.v1 import ingest_service_pb2_grpc
from flowhook.wire import convert, status
from router.dispatch.observers import ReplyWaiters
from router.flows.admission import AdmissionControl
from router.flows.flow_table import FlowTable
from router.flows.intake import EventIntake
from router.flows.parsing import InputParser
from router.secrets.callback_keys import CallbackKeys, ReplyTokens
from router.secrets.flow_secrets import SecretMatches
from router.services.ingest import IngestService
from router.storage.encryption import KEY_BYTES
from router.storage.registry import FlowDraft, Registry


def event(flow_id="hello", **fields):
    defaults = Event(ids.mint(ids.slot_of(flow_id)), flow_id, 1000, None, "", "POST", "", "", "text/plain", (), b"body")
    return convert.event_to_proto(defaults._replace(**fields))


class RunningIngestService:
    """IngestService on a real shard, called without the network, so that a call can be cancelled at any point."""

    def __init__(self, shard, total_backlog):
        self.shard = shard
        self.flows = FlowTable(shard.storage.registry, policies=shard.host, clock=shard.clock)
        parser = InputParser()  # starts no process for bodies that are small
        admission = AdmissionControl(runtime=shard.host, flows=self.flows, parser=parser, total_backlog=total_backlog)
        intake = EventIntake(
            runtime=shard.host,
            admission=admission,
            parser=parser,
            bodies=shard.storage.bodies,
            keys=CallbackKeys(bytes(KEY_BYTES)),
            matches=SecretMatches(0),
        )
        self._service = IngestService(
            runtime=shard.host, intake=intake, tokens=ReplyTokens(bytes(KEY_BYTES)), uploads=None
        )

    async def apply(self, name):
        source = flow(name)
        document = parse(source)
        draft = FlowDraft(document.id, source, canonical(document.definition), has_webhook=False)
        await self.shard.storage.registry.apply_flows([draft], now_ms=1)

    async def ingest(self, *events):
        response = await self._service.IngestEvents(pb.IngestEventsRequest(events=events), None)
        return [result.rejected.reason for result in response.results]

    async def invoke(self, message):
        return await self._service.InvokeFlow(pb.InvokeFlowRequest(event=message), Refusing())


class Refusing:
    """A call's context, of which only the refusal is needed."""

    async def abort(self, code, details, trailing_metadata):
        raise grpc.aio.AbortError(code.name, details)


@pytest.fixture
async def service(tmp_path):
    async with running_host(tmp_path) as shard:
        service = RunningIngestService(shard, total_backlog=1)
        await service.apply("hello")
        yield service


@pytest.fixture
async def stub(router, client):
    await client.flows.apply([flow("hello")])
    connection = channel.connect(router.target, router.token("edge"))
    yield ingest_service_pb2_grpc.IngestServiceStub(connection)
    await connection.close(None)


async def test_a_call_that_is_cancelled_before_it_stored_anything_counts_for_nothing(service, monkeypatch):
    await service.flows.load("hello")
    gate = asyncio.Event()
    monkeypatch.setattr(type(service.flows), "load", lambda _self, _flow_id: gate.wait())
    call = asyncio.create_task(service.ingest(event(), event("not-loaded-yet")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await service.ingest(event()) == [""]


async def test_a_call_that_is_cancelled_while_it_stores_stores_all_the_same(service):
    await service.flows.load("hello")
    call = asyncio.create_task(service.ingest(event()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    link = service.shard.attach()
    await link.next()
    assert await service.ingest(event()) == ["TOTAL_BACKLOG_FULL"]


async def test_of_a_batch_those_that_were_stored_before_are_accepted_and_the_others_refused(service):
    stored = event()
    assert await service.ingest(stored) == [""]
    full = "TOTAL_BACKLOG_FULL"
    assert await service.ingest(event(), stored, event()) == [full, "", full]


async def test_a_caller_that_gets_no_place_to_wait_finds_out_before_its_event_is_stored(service):
    service.shard.host.waiters = ReplyWaiters(
        replace(limits := RouterLimits(), replies_of_flow=replace(limits.replies_of_flow, total=1))
    )
    with pytest.raises(grpc.aio.AbortError):
        await service.invoke(event())
    assert service.shard.core.unfinished == 0


@pytest.mark.parametrize("callback", ["", "approval"])
async def test_an_event_that_nobody_expected_fails_alone_and_is_logged(service, monkeypatch, callback):
    read = Registry.get_flow

    async def get_flow(registry, flow_id, **which):
        if flow_id == "breaks":
            raise ZeroDivisionError("a defect")
        return await read(registry, flow_id, **which)

    monkeypatch.setattr(Registry, "get_flow", get_flow)
    unexpected = event("breaks", callback=callback)
    with capture_logs() as lines:
        assert await service.ingest(unexpected, event()) == ["INTERNAL", ""]
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], str(line["exc_info"])) for line in errors] == [("call failed", "a defect")]


async def test_a_caller_that_attaches_again_is_not_refused_for_want_of_room(tmp_path):
    event_id = ids.mint(ids.slot_of("hello"))
    async with running_router(tmp_path, total_backlog=1) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        await client.ingest("hello", {}, event_id=event_id)
        with pytest.raises(Exception, match="backlog"):
            await client.invoke("hello", {})
        invoking = asyncio.create_task(client.invoke("hello", {}, event_id=event_id))
        async with attached(router, credit=1) as runner:
            (assignment,) = await runner.assignments(1)
            await runner.complete(assignment, b"1")
        assert (await invoking).body == b"1"
        await client.flows.delete("hello")
        assert (await client.invoke("hello", {}, event_id=event_id)).body == b"1"


async def test_a_batch_that_is_too_large_is_refused_as_a_whole(stub, client):
    events = [event(body=b"x" * 9 * limits.MIB) for _ in range(3)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.IngestEvents(pb.IngestEventsRequest(events=events))
    assert status.from_rpc_error(caught.value).reason == "BATCH_INVALID"
    assert [execution async for execution in client.executions.list()] == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"headers": (("x-large", b"x" * 5 * limits.MAX_HEADER_BYTES),)}, "EVENT_TOO_LARGE"),
        ({"receive_time_ms": -1}, "RECEIVE_TIME_INVALID"),
        ({"receive_time_ms": 2**62}, "RECEIVE_TIME_INVALID"),
        ({"dedupe_key": "é" * 200}, "DEDUPE_KEY_INVALID"),
        ({"body": b"x" * (limits.MAX_BODY_BYTES + 1)}, "BODY_TOO_LARGE"),
    ],
)
async def test_an_event_that_can_not_be_is_refused_and_the_others_of_its_batch_are_stored(stub, fields, reason):
    events = [event(), event(**fields), event()]
    response = await stub.IngestEvents(pb.IngestEventsRequest(events=events))
    assert [result.rejected.reason for result in response.results] == ["", reason, ""]


async def test_the_largest_event_there_may_be_comes_back_whole(router, stub, client):
    largest = event(body=b"x" * limits.MAX_BODY_BYTES, headers=(("x", b"x" * limits.MAX_HEADER_BYTES),))
    await stub.IngestEvents(pb.IngestEventsRequest(events=[largest]))
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        assert assignment.event == largest.SerializeToString()
    assert (await client.executions.get(largest.id)).event.body == largest.body


async def test_many_callers_wait_for_one_execution_and_all_get_its_answer(router, client):
    await client.flows.apply([flow("hello")])
    event_id = ids.mint(ids.slot_of("hello"))
    invoking = [asyncio.create_task(client.invoke("hello", {}, event_id=event_id)) for _ in range(200)]
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment, b"1")
    assert {reply.body for reply in await asyncio.gather(*invoking)} == {b"1"}
    executions = [execution async for execution in client.executions.list()]
    assert [execution.status for execution in executions] == [Status.COMPLETED]


async def test_a_rate_limit_is_for_senders_and_not_for_operators_who_replay(router, client):
    await client.flows.apply([flow("slow", b"webhook: {auth: none, rate_limit: {per_second: 0.01, burst: 1}}\n")])
    execution_id = await client.ingest("slow", {})
    with pytest.raises(ExhaustedError):
        await client.ingest("slow", {})
    async with attached(router, credit=1) as runner:
        (assignment,) = await runner.assignments(1)
        await runner.complete(assignment)
    for _ in range(3):
        assert (await client.executions.replay(execution_id)).replay_of == execution_id
