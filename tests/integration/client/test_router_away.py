"""What clients do while the router is away: repeat what may be repeated, briefly, and say it in plain words."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.clients import Either, close
from support.ports import free_port

from flowhook.client import AsyncClient, channel, router_errors
from flowhook.errors import InternalError, UnavailableError
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc
from flowhook.wire import status


class StubFlowService(flow_service_pb2_grpc.FlowServiceServicer):
    """Counts calls, and fails the first of them as it was told to."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = 0
        self.hang = False

    async def _answer(self, context, response):
        self.calls += 1
        if self.hang:
            await asyncio.Event().wait()
        if self.failures:
            await status.abort(context, self.failures.pop(0))
        return response

    async def GetFlow(self, request, context):  # noqa: N802 - the name of the RPC
        flow = flow_service_pb2.Flow(id=request.flow_id)
        return await self._answer(context, flow_service_pb2.GetFlowResponse(flow=flow))

    async def DeleteFlow(self, request, context):  # noqa: N802 - the name of the RPC
        return await self._answer(context, flow_service_pb2.DeleteFlowResponse())


async def serve(flows, port=0):
    server = grpc.aio.server(options=channel.SERVER_OPTIONS)
    flow_service_pb2_grpc.add_FlowServiceServicer_to_server(flows, server)
    port = server.add_insecure_port(f"127.0.0.1:{port or free_port()}")
    await server.start()
    return server, port


AWAY = UnavailableError("the database is locked", reason="STORAGE_UNAVAILABLE")


@pytest.fixture
async def start(kind):
    """Starts a server of `StubFlowService` and gives a client to it."""
    running = []

    async def run(flows, **options):
        server, port = await serve(flows)
        client = kind(f"127.0.0.1:{port}", token="t", **options)
        running.append((server, client))
        return Either(client)

    yield run
    for server, client in running:
        await close(client)
        await server.stop(0)


async def test_a_call_that_may_be_repeated_outlasts_a_short_failure(start):
    flows = StubFlowService(AWAY, AWAY)
    client = await start(flows)
    assert (await client("flows.get", "x")).id == "x"
    assert flows.calls == 3


async def test_a_call_that_must_not_be_repeated_is_not(start):
    flows = StubFlowService(AWAY)
    client = await start(flows)
    with pytest.raises(UnavailableError, match="locked") as caught:
        await client("flows.delete", "x")
    assert (flows.calls, caught.value.reason) == (1, "STORAGE_UNAVAILABLE")


async def test_other_failures_are_not_repeated(start):
    flows = StubFlowService(InternalError("a defect"))
    client = await start(flows)
    with pytest.raises(InternalError):
        await client("flows.get", "x")
    assert flows.calls == 1


async def test_a_router_that_stays_away_is_named_after_two_seconds(kind, unused_port):
    client = kind(f"127.0.0.1:{unused_port}", token="t", timeout=3600)
    with pytest.raises(UnavailableError, match=f"can't reach the router at 127.0.0.1:{unused_port}") as caught:
        await Either(client)("flows.get", "x")
    assert caught.value.reason == "ROUTER_UNREACHABLE"
    await close(client)


async def test_a_router_that_does_not_answer_is_named_after_the_timeout(start):
    flows = StubFlowService()
    flows.hang = True
    client = await start(flows, timeout=0.2)
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.2 s") as caught:
        await client("flows.get", "x")
    assert caught.value.reason == "ROUTER_TIMEOUT"


async def test_a_router_that_comes_back_is_found_again(kind):
    server, port = await serve(StubFlowService())
    client = kind(f"127.0.0.1:{port}", token="t")
    assert (await Either(client)("flows.get", "x")).id == "x"
    await server.stop(0)
    pending = asyncio.create_task(Either(client)("flows.get", "y"))
    server, _ = await serve(StubFlowService(), port)
    assert (await pending).id == "y"
    await close(client)
    await server.stop(0)


async def test_a_cancelled_call_stays_cancelled():
    flows = StubFlowService()
    flows.hang = True
    server, port = await serve(flows)
    async with AsyncClient(f"127.0.0.1:{port}", token="t") as client:
        pending = asyncio.create_task(client.flows.get("x"))
        while not flows.calls:
            await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
    await server.stop(0)


class Refused(grpc.RpcError):
    """What gRPC raises when nobody listens."""

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "connection refused"

    def trailing_metadata(self):
        return ()


def test_attempts_wait_longer_each_time_and_end_in_time():
    attempts, waited = router_errors.CallRetries(repeatable=True, target="r:1", timeout=10, now=0.0), []

    def wait_until_it_gives_up():
        while True:
            waited.append(attempts.delay_after(Refused(), sum(waited)))

    with pytest.raises(UnavailableError, match="r:1"):
        wait_until_it_gives_up()
    assert all(whole / 2 <= each <= whole for each, whole in zip(waited, (0.05, 0.1, 0.2, 0.4, 0.5), strict=False))
    assert sum(waited) <= router_errors.RETRY_SECONDS
