"""Both clients of several routers: they call the owner, and repeat what may be repeated on the next one."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.certificates import Authority
from support.clients import Either, close
from support.patience import PATIENCE, until
from support.shard_routers import shard_routers

from flowhook.client import Client
from flowhook.errors import InvalidError, UnauthenticatedError, UnavailableError
from flowhook.v1 import (
    execution_service_pb2,
    execution_service_pb2_grpc,
    flow_service_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
)
from flowhook.wire.status import failure_to_proto


class Services(
    flow_service_pb2_grpc.FlowServiceServicer,
    ingest_service_pb2_grpc.IngestServiceServicer,
    execution_service_pb2_grpc.ExecutionServiceServicer,
):
    """What all routers answer once `gate` is set, as if what they store was replicated."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.invoked = []
        self.ingested = []
        self.rejections = []

    def __call__(self, server):
        flow_service_pb2_grpc.add_FlowServiceServicer_to_server(self, server)
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(self, server)

    async def GetFlow(self, request, context):  # noqa: N802 - the name of the RPC
        await self.gate.wait()
        return flow_service_pb2.GetFlowResponse(flow=flow_service_pb2.Flow(id=request.flow_id))

    async def IngestEvents(self, request, context):  # noqa: N802 - the name of the RPC
        results = []
        for event in request.events:
            self.ingested.append(event.id)
            error = self.rejections.pop(0) if self.rejections else None
            accepted = ingest_service_pb2.Accepted(execution_id=event.id)
            results.append(
                ingest_service_pb2.IngestResult(accepted=accepted)
                if error is None
                else ingest_service_pb2.IngestResult(rejected=failure_to_proto(error))
            )
        return ingest_service_pb2.IngestEventsResponse(results=results)

    async def InvokeFlow(self, request, context):  # noqa: N802 - the name of the RPC
        self.invoked.append(request.event.id)
        await self.gate.wait()
        reply = {"status": 200, "body": b"done"}
        return ingest_service_pb2.InvokeFlowResponse(execution_id=request.event.id, reply=reply)

    async def CancelExecution(self, request, context):  # noqa: N802 - the name of the RPC
        await self.gate.wait()
        execution = execution_service_pb2.Execution(id=request.execution_id)
        return execution_service_pb2.CancelExecutionResponse(execution=execution)

    async def ReadBody(self, request, context):  # noqa: N802 - the name of the RPC
        yield execution_service_pb2.ReadBodyResponse(chunk=b"body")


@pytest.fixture
async def services():
    return Services()


@pytest.fixture
async def routers(services):
    async with shard_routers(3, services) as running:
        yield running


@pytest.fixture
async def client(routers, kind):
    client = kind(routers.target, token="t", timeout=PATIENCE)
    yield Either(client)
    await close(client)


async def test_a_call_that_hangs_on_a_paused_owner_is_repeated_on_the_next_one(routers, services, client):
    routers.move(0, 1)
    services.gate.clear()
    pending = asyncio.create_task(client("flows.get", "x"))
    await until(lambda: routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    services.gate.set()
    assert (await pending).id == "x"
    assert routers[1].calls == ["GetFlow"]


async def test_so_is_a_call_that_waits_for_the_reply_of_a_flow_with_the_same_event(routers, services, client):
    routers.move(0, 1)
    services.gate.clear()
    pending = asyncio.create_task(client("invoke", "hello", b"{}", timeout=PATIENCE))
    await until(lambda: services.invoked)
    routers[0].pause()
    routers.move(1, 2)
    services.gate.set()
    assert (await pending).body == b"done"
    assert len(services.invoked) == 2
    assert len(set(services.invoked)) == 1


async def test_a_call_that_must_not_be_repeated_is_unavailable(routers, services, client):
    routers.move(0, 1)
    services.gate.clear()
    pending = asyncio.create_task(client("executions.cancel", "evt_1"))
    await until(lambda: routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    with pytest.raises(UnavailableError, match="was replaced before it answered") as failed:
        await pending
    assert failed.value.reason == "ROUTER_REPLACED"
    assert routers[1].calls == []


async def test_but_it_waits_for_an_owner_and_outlasts_a_refusal_because_neither_had_an_effect(routers, client):
    pending = asyncio.create_task(client("executions.cancel", "evt_1"))
    await until(lambda: all(router.watches for router in routers))
    routers[0].report(1, routers[0].address)  # and does not answer as the owner yet
    await until(lambda: routers[0].calls)
    routers[0].owns = True
    assert (await pending).id == "evt_1"
    assert len(routers[0].calls) > 1


async def test_an_event_that_a_router_was_storing_when_it_lost_the_shard_is_sent_again(routers, services, client):
    routers.move(0, 1)
    services.rejections = [UnavailableError("lost", reason="SHARD_LOST")] * 2
    assert await client("ingest", "hello", b"{}") == services.ingested[0]
    assert services.ingested == services.ingested[:1] * 3


async def test_one_that_is_refused_for_another_reason_is_not(routers, services, client):
    routers.move(0, 1)
    services.rejections = [UnavailableError("full", reason="STORAGE_FULL")]
    with pytest.raises(UnavailableError, match="full"):
        await client("ingest", "hello", b"{}")
    assert len(services.ingested) == 1


async def test_calls_wait_while_nobody_owns_the_shard(routers, client):
    pending = asyncio.create_task(client("flows.get", "x"))
    body = asyncio.create_task(client("executions.body", "evt_1"))
    await until(lambda: all(router.watches for router in routers))
    routers.move(0, 1, serving=False)
    assert not pending.done()
    routers.move(2, 2)
    assert (await pending).id == "x"
    assert await body == [b"body"]


async def test_one_live_router_of_three_suffices(routers, client):
    routers.move(2, 5)
    await routers[0].kill()
    routers[1].pause()
    assert (await client("flows.get", "x")).id == "x"
    assert await client("executions.body", "evt_1") == [b"body"]


async def test_the_owner_may_be_a_router_that_the_target_does_not_name(routers, kind):
    client = kind(f"{routers[0].address},{routers[1].address}", token="t")
    routers.move(2, 1)
    assert (await Either(client)("flows.get", "x")).id == "x"
    assert routers[2].calls == ["GetFlow"]
    await close(client)


async def test_a_killed_owner_is_replaced_by_the_next_one(routers, client):
    routers.move(0, 1)
    assert (await client("flows.get", "x")).id == "x"
    await routers[0].kill()
    pending = asyncio.create_task(client("flows.get", "y"))
    routers.move(1, 2)
    assert (await pending).id == "y"


async def test_without_an_owner_the_error_says_what_each_router_says(routers, kind):
    await routers[0].kill()
    answer = f"{routers[1].address} knows no owner that serves"
    for timeout in (0.3, 3.0, 30.0):  # on a busy machine the others need more time to answer
        client = kind(routers.target, token="t", timeout=timeout)
        with pytest.raises(UnavailableError, match=f"can't reach {routers[0].address}") as failed:
            await Either(client)("flows.get", "x")
        await close(client)
        assert failed.value.reason == "NO_SERVING_ROUTER"
        if answer in failed.value.message:
            break
    assert answer in failed.value.message


async def test_a_refused_token_is_an_error_at_once(routers, client):
    for router in routers:
        router.refuses_tokens = True
    with pytest.raises(UnauthenticatedError):
        await client("flows.get", "x")


def test_the_wrong_one_of_several_addresses_is_named(kind):
    with pytest.raises(InvalidError, match="'b' is none"):
        kind("a:1,b", token="t")


async def test_credentials_are_those_of_all_routers(services, kind, tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("127.0.0.1")
    secure = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    async with shard_routers(2, services, secure=secure) as routers:
        client = kind(routers.target, token="t", ca_file=authority.ca_file)
        routers.move(1, 1)
        assert (await Either(client)("flows.get", "x")).id == "x"
        await close(client)


async def test_a_router_with_the_embedded_storage_is_the_owner_among_others(router, kind, unused_port):
    client = kind(f"127.0.0.1:{unused_port},{router.target}", token=router.token())
    assert await Either(client)("flows.list") == []
    await close(client)


@pytest.fixture
async def client_of_first(routers):
    """A blocking client that knows the address of the first router only."""
    client = Client(routers[0].address, token="t", timeout=PATIENCE)
    yield Either(client)
    client.close()


async def test_a_command_that_knows_one_router_follows_the_owner_that_it_names(routers, client_of_first):
    routers.move(1, 1)
    assert (await client_of_first("flows.get", "x")).id == "x"
    assert (routers[0].calls, routers[1].calls) == (["GetFlow"], ["GetFlow"])
    assert (await client_of_first("flows.get", "y")).id == "y"
    assert routers[0].calls == ["GetFlow"]  # it is not asked again
    routers.move(0, 2)
    assert (await client_of_first("flows.get", "z")).id == "z"


async def test_so_does_a_stream_of_one_that_knows_one_router(routers, client_of_first):
    routers.move(2, 1)
    assert await client_of_first("executions.body", "evt_x") == [b"body"]


async def test_whoever_knows_one_router_that_answers_calls_no_other(routers, client_of_first):
    routers.move(0, 1)
    routers[0].report(1, "127.0.0.1:1")  # a port that leads nowhere from here
    assert (await client_of_first("flows.get", "x")).id == "x"
    assert routers[0].watches == 0


async def test_an_owner_that_can_not_be_reached_is_named(routers):
    routers.move(1, 1)
    routers[0].report(1, "127.0.0.1:1")
    with Client(routers[0].address, token="t", timeout=1.0) as client, pytest.raises(UnavailableError) as raised:
        await asyncio.to_thread(client.flows.get, "x")
    assert raised.value.reason == "OWNER_UNREACHABLE"
    assert raised.value.message.startswith(f"the router at {routers[0].address} says that the one at 127.0.0.1:1 owns")
