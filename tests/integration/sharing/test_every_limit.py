"""One principal at its limit gets a clear error; others, and what is essential, are served all the same.

Each limit of the tables has a scenario here that holds seats of it, in a real process that has a small one.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.edges import running_edge
from support.limit_tables import limits_of
from support.patience import PATIENCE
from support.relays import relayed
from support.routers import flow, running_router
from support.uploads import uploaded

from flowhook.client import channel
from flowhook.errors import ExhaustedError, FlowhookError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.limits import KIB, MIB
from flowhook.security.tokens import TokenScope, create_token
from flowhook.sharing import FairQueue, Principal, current_principal
from flowhook.sharing.table import EdgeLimits, OffloadLimits, RouterLimits
from flowhook.v1 import (
    cluster_service_pb2,
    execution_service_pb2,
    ingest_service_pb2,
    runner_service_pb2,
    shard_service_pb2,
)
from flowhook.v1.cluster_service_pb2_grpc import ClusterServiceStub
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.v1.runner_service_pb2_grpc import RunnerServiceStub
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire import status
from router.storage.readers import Readers
from router.storage.schema import connect_writer

SEATS = 16
"""Seats of a small limit; half of them are reserved where some are."""

REPLYING = b"webhook: {auth: none, respond: {mode: reply, timeout: PT1H}}\n"

PRINCIPALS = ("a", "b", "c", "d")
"""Names of tokens and of flows; senders have addresses by their number."""


class RouterUnderTest:
    """A router, and what principals do with it."""

    def __init__(self, router, client, stack):
        self.client = client
        self.target = router.target
        self._router = router
        self._stack = stack
        self._channels = {}
        self._execution_id = None
        self._names = 0

    async def stalling(self, who):
        """Return a channel that receives at most 64 KiB of a stream before it is read."""
        window = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * KIB))
        connected = grpc.aio.insecure_channel(self.target, options=window)
        await self._stack.enter_async_context(connected)
        return channel.AuthenticatedChannel(connected, self._router.token(who))

    def next_name(self):
        """Return the name of a further process."""
        self._names += 1
        return f"process-{self._names}"

    async def stored(self):
        """Return the ID of an execution with a large body."""
        if self._execution_id is None:
            self._execution_id = await uploaded(self._router, "a", bytes(4 * MIB))
        return self._execution_id

    async def channel(self, who):
        if who not in self._channels:
            connected = channel.connect(self.target, self._router.token(who))
            self._channels[who] = await self._stack.enter_async_context(connected)
        return self._channels[who]


@asynccontextmanager
async def router_with(tmp_path, limits, scopes, **settings):
    async with running_router(tmp_path / "data", limits=limits, **settings) as router, router.client() as client:
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


class EdgeUnderTest:
    """An edge, and what senders do with it: each principal has an address of its own."""

    def __init__(self, address, relay):
        self.host, _, self.port = address.rpartition(":")
        self.relay = relay

    async def connect(self, who):
        local = f"127.0.0.{PRINCIPALS.index(who) + 2}"
        return await asyncio.open_connection(self.host, int(self.port), local_addr=(local, 0))

    @asynccontextmanager
    async def requested(self, who, data):
        """Hold a request that is not answered; raise what it is refused with."""
        reader, writer = await self.connect(who)
        response = asyncio.ensure_future(http_response(reader))
        try:
            writer.write(data)
            # what the edge answers at once is there when later requests are answered, which need no router
            for _ in range(2):
                await self.answered(b"GET /replies/ HTTP/1.1\r\nHost: a\r\n\r\n")
            if response.done():
                refuse(*response.result())
            yield
        finally:
            response.cancel()
            await asyncio.wait({response})
            writer.close()

    async def answered(self, data):
        reader, writer = await self.connect("d")
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            response = await http_response(reader)
        writer.close()
        return response


async def http_response(reader):
    """Read a response: its status, its headers, its body as JSON."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return (
        int(start.split()[1]),
        headers,
        orjson.loads(await reader.readexactly(int(headers["content-length"])) or b"{}"),
    )


def refuse(http_status, headers, problem):
    kind = ExhaustedError if http_status == 429 or problem["reason"] == "OVERLOADED" else UnavailableError
    raise kind(problem["detail"], reason=problem["reason"], retry_after=int(headers["retry-after"]))


def http_reply_awaited(edge, flow_id, who):
    return edge.requested(who, b"POST /hook/%s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" % flow_id.encode())


@asynccontextmanager
async def reply_fetched(edge, who):
    """Hold a request whose edge waits for a router that is silent."""
    edge.relay.pause()
    async with edge.requested(who, b"GET /replies/some-token HTTP/1.1\r\nHost: a\r\n\r\n"):
        yield


FETCH_SECONDS = 20
"""Long enough for two principals to fetch replies on a busy machine, and no longer: the test waits for it."""


def head_sent(edge, who):
    """Hold a part of a head that takes 1,000 bytes."""
    head = b"POST /hook/a HTTP/1.1\r\nHost: a\r\nX: "
    return edge.requested(who, head + b"x" * (1000 - len(head)))


@asynccontextmanager
async def download_stalled(router, who):
    stub = ExecutionServiceStub(await router.stalling(who))
    request = execution_service_pb2.ReadBodyRequest(execution_id=await router.stored())
    if who == "edge":
        stub = RunnerServiceStub(await router.stalling("runner"))
        request = runner_service_pb2.ReadAttachmentRequest(execution_id=request.execution_id, size=4 * MIB)
    async with open_stream(stub.ReadAttachment(request) if who == "edge" else stub.ReadBody(request)):
        yield


@asynccontextmanager
async def series_reported(router, who):
    """Hold ten series of metrics, until they are reported no more."""
    role, stub = ("edge" if who == "edge" else "admin"), ClusterServiceStub(await router.channel(who))
    lines = "".join(f'm{{number="{number}"}} 1\n' for number in range(10))
    process = cluster_service_pb2.Process(name=router.next_name(), role=role)
    process.metrics = f"# HELP m M.\n# TYPE m gauge\n{lines}".encode()
    response = await raised_by(stub.ReportProcess(cluster_service_pb2.ReportProcessRequest(process=process)))
    if response.metrics_dropped:
        raise ExhaustedError("metrics dropped", reason="METRICS_DROPPED", retry_after=5)
    yield
    process.metrics = b""
    await raised_by(stub.ReportProcess(cluster_service_pb2.ReportProcessRequest(process=process)))


@asynccontextmanager
async def body_uploaded(router, who):
    """Hold an upload that is admitted and goes no further; it announces 1,000 bytes."""
    call = IngestServiceStub(await router.channel(who)).UploadBody()
    try:
        # those that are proven have places of their own, which other tokens must not take from edges either
        proven, sender = who != "edge", router.next_name()
        start = ingest_service_pb2.UploadStart(flow_id="a", size=1000, proven=proven, sender=sender)
        await call.write(ingest_service_pb2.UploadBodyRequest(start=start))
        if not dict(await call.initial_metadata()).get("admitted"):
            await raised_by(call)
        yield
    finally:
        call.cancel()


SCENARIOS = {
    "calls": Scenario(owner_watched),
    "streams": Scenario(owner_watched),
    "anonymous_streams": Scenario(health_watched),
    "execution_watches": Scenario(executions_watched),
    "downloads": Scenario(download_stalled),
    "report_series": Scenario(series_reported, 10),
    "uploads": Scenario(body_uploaded, scopes=(TokenScope.INGEST,)),
    "upload_bytes": Scenario(body_uploaded, 1000, (TokenScope.INGEST,)),
    "replies_of_flow": Scenario(lambda router, who: reply_awaited(router, who, "edge"), 26_000),
    "replies_of_token": Scenario(lambda router, who: reply_awaited(router, "a", who), 26_000, (TokenScope.INGEST,)),
}
"""Scenarios by the limits' names in `RouterLimits`."""


class Reads:
    """Reads of a database that take until they are told to end."""

    def __init__(self, path, limit):
        connect_writer(path, durable=False).close()
        self._readers = Readers(path, limit)
        self._end = {}

    async def work(self, principal, name):
        """Read as a principal; it begins when it has a thread."""
        end = self._end.setdefault(name, threading.Event())
        current_principal.set(principal)
        return await self._readers.run(lambda _connection: end.wait(PATIENCE))

    def end(self, name):
        self._end.setdefault(name, threading.Event()).set()

    async def close(self):
        await self._readers.close()


class Turns:
    """Work that takes until it is told to end, in a queue as such: what it is in the product takes no certain time."""

    def __init__(self, _path, limit):
        self._queue = FairQueue(limit)
        self._end = {}

    async def work(self, principal, name):
        async with self._queue.seat(principal):
            return await self._end.setdefault(name, asyncio.Event()).wait()

    def end(self, name):
        self._end.setdefault(name, asyncio.Event()).set()

    async def close(self):
        pass


QUEUES = {"reads": Reads, "queries": Reads, "reports": Turns, "verifications": Turns, "processes": Turns}
"""What does work for which callers wait, by the limits' names in `RouterLimits` and `OffloadLimits`."""

WAITED_FOR = {
    name: each for table in (RouterLimits, OffloadLimits) for name, each in limits_of(table).items() if each.waiting
}

SETTINGS = {"uploads": {"max_uploads": 2}, "upload_bytes": {"max_upload_bytes": 1}}
"""Limits that settings determine: the part of the total that a setting has."""

OF_EDGE = {
    "replies_of_flow": Scenario(lambda edge, who: http_reply_awaited(edge, who, "d")),
    "replies_of_sender": Scenario(lambda edge, who: http_reply_awaited(edge, "a", who)),
    "fetches": Scenario(reply_fetched),
    "received_bytes": Scenario(head_sent, 1000),
}
"""Scenarios by the limits' names in `EdgeLimits`."""


async def filled(stack, hold):
    """Hold as many seats as one gets; return their number, and the error that refuses the next one."""
    held = 0
    while True:
        try:
            await stack.enter_async_context(hold())
        except FlowhookError as error:
            return held, error
        held += 1


@pytest.mark.parametrize("name", WAITED_FOR)
async def test_who_waits_in_a_queue_keeps_nobody_waiting(tmp_path, name):
    assert name in QUEUES, f"write a scenario in which principals wait for {name}"
    limit = replace(WAITED_FOR[name], waiting=20)
    queue = QUEUES[name](tmp_path / "flowhook.db", limit)
    first, second, edge = (Principal("token", each, essential=each == "edge") for each in ("a", "b", "edge"))
    calls = []
    try:
        while not (refused := [each for each in calls if each.done()]):
            calls.append(asyncio.create_task(queue.work(first, f"a{len(calls)}")))
            await asyncio.sleep(0.01)
        error = refused[0].exception()
        assert isinstance(error, ExhaustedError)
        assert error.reason == limit.reason
        assert 1 <= len(calls) < limit.total + limit.waiting

        # another's work, and that of an edge, is done before that of the first
        for principal in (second, edge):
            queue.end(principal.name)
            async with asyncio.timeout(PATIENCE):
                assert await queue.work(principal, principal.name)
        assert [each for each in calls if each.done()] == refused

        for number in range(len(calls)):
            queue.end(f"a{number}")
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*calls, return_exceptions=True)
    finally:
        for number in range(len(calls)):
            queue.end(f"a{number}")
        await queue.close()


@pytest.mark.parametrize("name", [name for name, limit in limits_of(RouterLimits).items() if not limit.waiting])
async def test_who_has_its_share_of_a_router_keeps_nobody_out(tmp_path, name):
    scenario, limit = small(name, RouterLimits, SCENARIOS)
    settings = {setting: limit.total // parts for setting, parts in SETTINGS.get(name, {}).items()}
    limits = replace(RouterLimits(), **{name: limit})
    async with router_with(tmp_path, limits, scenario.scopes, **settings) as router:
        await check(limit, scenario, lambda who: scenario.hold(router, who))


@pytest.mark.parametrize("name", limits_of(EdgeLimits))
async def test_who_has_its_share_of_an_edge_keeps_nobody_out(tmp_path, name):
    scenario, limit = small(name, EdgeLimits, OF_EDGE)
    async with running_router(tmp_path / "data") as router, router.client() as client, relayed(router.target) as relay:
        await client.flows.apply([flow(each, REPLYING) for each in PRINCIPALS])
        settings = {
            "target": relay.target,
            # a fetch of a reply holds its seat until the router answers or this is over, also if its sender has left
            "router_timeout": FETCH_SECONDS if name == "fetches" else PATIENCE,
            "header_timeout": PATIENCE,
            "drain_seconds": PATIENCE,
        }
        limits = replace(EdgeLimits(), **{name: limit})
        async with running_edge(router, limits=limits, **settings) as address:
            edge = EdgeUnderTest(address, relay)
            for each in PRINCIPALS:
                await edge.answered(b"HEAD /hook/%s HTTP/1.1\r\nHost: a\r\n\r\n" % each.encode())
            await check(limit, scenario, lambda who: scenario.hold(edge, who))
            relay.resume()


def small(name, table, scenarios):
    """Return a scenario, and its limit with few seats."""
    assert name in scenarios, f"write a scenario in which principals hold seats of {name}"
    scenario, limit = scenarios[name], limits_of(table)[name]
    total = SEATS * scenario.unit
    return scenario, replace(limit, total=total, reserved=total * limit.reserved // limit.total)


async def check(limit, scenario, hold):
    """Let one principal hold its share, and then others hold something, `hold` being a way to hold a seat."""
    async with AsyncExitStack() as stack:
        of_first = await stack.enter_async_context(AsyncExitStack())
        held, refused = await filled(of_first, lambda: hold("a"))
        assert held == (limit.total - limit.reserved) // limit.parts // scenario.unit
        assert isinstance(refused, ExhaustedError)
        assert (refused.reason, refused.retry_after) == (limit.reason, limit.retry_after)

        await stack.enter_async_context(hold("b"))

        if limit.reserved:
            for who in PRINCIPALS[1:]:
                await filled(stack, lambda who=who: hold(who))
            of_edge, _ = await filled(stack, lambda: hold("edge"))
            assert of_edge >= SEATS // 2

        await of_first.aclose()
        await again(stack, lambda: hold("a"))


async def again(stack, hold):
    """Hold a seat as soon as one is free."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await stack.enter_async_context(hold())
            except (ExhaustedError, UnavailableError):
                await asyncio.sleep(0.01)
