"""One principal at its limit gets a clear error; others, and what is essential, are served all the same.

Each limit of the tables has a scenario here that holds seats of it, in a real process that has a small one.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.patience import PATIENCE
from support.relays import relayed
from support.routers import flow, running_router

from flowhook import ids
from flowhook.client import channel
from flowhook.errors import ExhaustedError, FlowhookError, NotFoundError, UnavailableError
from flowhook.sharing import Limit
from flowhook.sharing.table import RouterLimits
from flowhook.tokens import TokenScope, create_token
from flowhook.v1 import execution_service_pb2, ingest_service_pb2, shard_service_pb2
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire import status

SEATS = 16
"""Seats of a small limit; half of them are reserved where some are."""

PRINCIPALS = ("a", "b", "c", "d")
"""Names of tokens, and of flows."""


class RouterUnderTest:
    """A router, and what principals do with it."""

    def __init__(self, router, client, stack):
        self.client = client
        self.target = router.target
        self._router = router
        self._stack = stack
        self._channels = {}

    async def channel(self, who):
        if who not in self._channels:
            connected = channel.connect(self.target, self._router.token(who))
            self._channels[who] = await self._stack.enter_async_context(connected)
        return self._channels[who]


@asynccontextmanager
async def router_with(tmp_path, limits, scopes):
    async with running_router(tmp_path / "data", limits=limits) as router, router.client() as client:
        data_dir = Path(router.settings.data_dir)
        for name in PRINCIPALS:
            (data_dir / f"{name}.token").write_text(create_token(data_dir, name, scopes))
        await client.flows.apply([flow(name) for name in PRINCIPALS])
        async with AsyncExitStack() as stack:
            yield RouterUnderTest(router, client, stack)


class Scenario(NamedTuple):
    """How a principal holds a seat.

    Attributes:
        hold: returns a context manager that holds a seat as the principal of a name, or raises what refuses it.
        unit: what one seat counts.
        scopes: scopes of the tokens.
    """

    hold: object
    unit: int = 1
    scopes: tuple[TokenScope, ...] = (TokenScope.VIEW,)


async def raised_by(call):
    """Await what a call returns, and raise our errors."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await call
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None


@asynccontextmanager
async def open_stream(call):
    """Hold a stream that has sent its first message."""
    try:
        await raised_by(call.read())
        yield
    finally:
        call.cancel()


@asynccontextmanager
async def owner_watched(router, who):
    watch = ShardServiceStub(await router.channel(who)).WatchShards(shard_service_pb2.WatchShardsRequest())
    async with open_stream(watch):
        yield


@asynccontextmanager
async def executions_watched(router, who):
    stub = ExecutionServiceStub(await router.channel(who))
    async with open_stream(stub.WatchExecutions(execution_service_pb2.WatchExecutionsRequest())):
        yield


@asynccontextmanager
async def health_watched(router, who):
    source = f"127.0.0.{PRINCIPALS.index(who) + 2}"
    async with (
        relayed(router.target, source) as relay,
        grpc.aio.insecure_channel(relay.target) as connected,
        open_stream(health_pb2_grpc.HealthStub(connected).Watch(health_pb2.HealthCheckRequest())),
    ):
        yield


@asynccontextmanager
async def reply_awaited(router, flow_id, who):
    """Hold a call that waits for a reply: there is no runner that could give one."""
    event = Event(id=ids.mint(ids.slot_of(flow_id)), flow_id=flow_id, method="POST")
    request = ingest_service_pb2.InvokeFlowRequest(event=event)
    request.max_wait.FromSeconds(int(PATIENCE))
    call = asyncio.ensure_future(raised_by(IngestServiceStub(await router.channel(who)).InvokeFlow(request)))
    try:
        while not call.done() and not await is_stored(router, event.id):
            await asyncio.sleep(0.01)
        if call.done():
            await call
        yield
    finally:
        call.cancel()
        await asyncio.wait({call})


async def is_stored(router, execution_id):
    try:
        await router.client.executions.get(execution_id)
    except NotFoundError:
        return False
    return True


SCENARIOS = {
    "calls": Scenario(owner_watched),
    "streams": Scenario(owner_watched),
    "anonymous_streams": Scenario(health_watched),
    "execution_watches": Scenario(executions_watched),
    "replies_of_flow": Scenario(lambda router, who: reply_awaited(router, who, "edge"), 26_000),
    "replies_of_token": Scenario(lambda router, who: reply_awaited(router, "a", who), 26_000, (TokenScope.INGEST,)),
}
"""Scenarios by the limits' names in `RouterLimits`."""

LIMITS = {each.name: each.default for each in fields(RouterLimits) if isinstance(each.default, Limit)}


async def filled(stack, hold):
    """Hold as many seats as one gets; return their number, and the error that refuses the next one."""
    held = 0
    while True:
        try:
            await stack.enter_async_context(hold())
        except FlowhookError as error:
            return held, error
        held += 1


@pytest.mark.parametrize("name", LIMITS)
async def test_who_has_its_share_keeps_nobody_out(tmp_path, name):
    assert name in SCENARIOS, f"write a scenario in which principals hold seats of {name}"
    scenario, limit = SCENARIOS[name], LIMITS[name]
    limit = replace(limit, total=SEATS * scenario.unit, reserved=SEATS // 2 * scenario.unit if limit.reserved else 0)
    async with (
        router_with(tmp_path, replace(RouterLimits(), **{name: limit}), scenario.scopes) as router,
        AsyncExitStack() as stack,
    ):
        of_first = await stack.enter_async_context(AsyncExitStack())
        held, refused = await filled(of_first, lambda: scenario.hold(router, "a"))
        assert held == (limit.total - limit.reserved) // limit.parts // scenario.unit
        assert isinstance(refused, ExhaustedError)
        assert (refused.reason, refused.retry_after) == (limit.reason, limit.retry_after)
        assert "end some, or try again" in refused.message

        await stack.enter_async_context(scenario.hold(router, "b"))

        if limit.reserved:
            for who in PRINCIPALS[1:]:
                _, refused = await filled(stack, lambda who=who: scenario.hold(router, who))
            of_edge, refused = await filled(stack, lambda: scenario.hold(router, "edge"))
            assert of_edge == SEATS // 2
            assert isinstance(refused, ExhaustedError)

        await of_first.aclose()
        await again(stack, lambda: scenario.hold(router, "a"))


async def again(stack, hold):
    """Hold a seat as soon as one is free."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await stack.enter_async_context(hold())
            except (ExhaustedError, UnavailableError):
                await asyncio.sleep(0.01)
