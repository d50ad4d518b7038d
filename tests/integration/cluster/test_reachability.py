"""Owners and standbys that can't be reached at the address that they advertise, though the log reaches them."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from types import SimpleNamespace

import grpc
import orjson
import pytest
from support.commands import flowhook_process
from support.consoles import running_console
from support.patience import PATIENCE
from support.relays import relayed
from support.replicated_routers import running_edge
from support.systems import document

from flowhook.client import AsyncClient
from flowhook.client.channel import connect, open_plain
from flowhook.errors import ConflictError, FlowhookError, NotFoundError, PermissionDeniedError
from flowhook.process.process_state import ProcessState
from flowhook.reporting.reachability import ReachabilityReporter
from flowhook.security.tokens import TokenScope, create_token
from flowhook.v1 import shard_service_pb2 as pb
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub


@asynccontextmanager
async def behind_relays(routers, *names):
    """Start routers that advertise the address of a relay; yield the relays by name, once all are ready."""
    async with AsyncExitStack() as stack:
        relays = {}
        for name in names:
            relay = relays[name] = await stack.enter_async_context(relayed("127.0.0.1:1"))
            router = routers.start(name, advertise=relay.target)
            await router.until(lambda router: "grpc" in router.lifecycle.addresses)
            relay.lead_to(router.target)
            await router.until(lambda router: router.lifecycle.ready.is_set())
        yield relays


@asynccontextmanager
async def reporting_runner(routers, target):
    """What a runner reports of the routers."""
    async with connect(target, routers.token("runner")) as channel:
        # a runner calls the owner all the time
        reporting = asyncio.create_task(
            ReachabilityReporter(channel, ProcessState(name="runner-1", role="runner")).run()
        )
        await channel.channel_ready()
        try:
            yield
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)


async def seen(router, condition):
    """Wait until what a router says of the shard meets a condition, and return that."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                shard = await router.shard()
                if found := condition({copy.router: copy for copy in shard.copies}, shard.owner):
                    return found
            except grpc.RpcError:
                pass  # it changes its server
            await asyncio.sleep(0.02)


async def test_an_owner_that_edges_and_runners_can_not_reach_hands_over_to_a_standby_that_they_reach(routers):
    async with behind_relays(routers, "r1", "r2") as relays:
        first, second = routers.routers
        target = ",".join(relay.target for relay in relays.values())
        outside = SimpleNamespace(directory=routers.directory, target=target)
        async with running_edge(outside) as post, reporting_runner(routers, target):
            async with first.client() as client:
                await client.flows.apply([document("demo")])
            assert (await post("demo", {}))[0] == 202
            for router in (first, second):  # both are reached, and know it
                await seen(router, lambda *_, router=router: router.metric("flowhook_router_reached_by") == 2)

            relays["r1"].pause()
            problem = await seen(second, lambda copies, _: copies["r1"].problem)
            assert problem.startswith(f"r1 is not reachable at {relays['r1'].target} (")
            assert "no answer within 5 s" in problem
            assert "FLOWHOOK_ADVERTISE" in problem
            await seen(
                second, lambda copies, _: {"edge-1", "runner-1"} <= {e.process for e in copies["r1"].unreachable_from}
            )

            owner = await seen(second, lambda _, owner: owner.serving and owner.epoch == 2 and owner)
            assert owner.router == "r2"
            assert (await post("demo", {}))[0] == 202
            # the log reaches the former owner as before
            assert (await seen(first, lambda copies, owner: owner.epoch == 2 and copies["r1"])).state == "following"


@pytest.mark.parametrize("wrong", ["nobody", "another router"])
async def test_a_standby_that_advertises_a_wrong_address_is_named_before_it_takes_over(routers, wrong):
    first = routers.start("r1")
    await routers.owner()
    address = first.target if wrong == "another router" else "127.0.0.1:1"
    second = routers.start("r2", advertise=address)
    cause = "another router answers there" if wrong == "another router" else "connection refused"
    expected = f"r2 is not reachable at {address} (r1 can't connect: {cause}); check its FLOWHOOK_ADVERTISE"
    for router in (first, second):
        assert (await seen(router, lambda copies, _: "r2" in copies and copies["r2"].problem)).startswith(expected)
    async with first.client() as client:
        processes = {process.name: process for process in await client.cluster.processes()}
    assert processes["r1"].ready
    assert not processes["r2"].ready
    assert processes["r2"].detail.startswith(expected)


async def handed_over(client, found):
    """Wait until the next owner serves, and return its name."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (shard,) = (await client.cluster.shards()).shards
            if shard.serving and shard.epoch > found.epoch:
                return shard.owner
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("asked", ["r1", "r2"])
@pytest.mark.parametrize("named", [True, False])
async def test_an_operator_moves_the_shard_whichever_router_is_asked(routers, asked, named):
    first, second = routers.start("r1"), None
    await routers.owner()
    second = routers.start("r2")
    await second.until(lambda router: router.lifecycle.ready.is_set())
    router = {"r1": first, "r2": second}[asked]
    async with routers.client() as client, router.client() as direct:
        await seen(first, lambda copies, _: "r2" in copies)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    found = await direct.cluster.hand_over("r2" if named else "")
                    break
                except (NotFoundError, ConflictError):  # the standby's heartbeat is on its way
                    await asyncio.sleep(0.02)
        assert (found.owner, found.epoch, found.successor) == ("r1", 1, "r2")
        assert await handed_over(client, found) == "r2"
        entries = [entry async for entry in client.audit.list(action="ShardService/HandOver")]
        assert [(entry.actor, entry.target, entry.error) for entry in entries if not entry.error] == [
            ("admin", "r2", "")
        ]
        assert (await second.shard()).owner.epoch == 2


async def test_the_console_names_the_cause_and_hands_over(routers):
    first = routers.start("r1")
    await routers.owner()
    second = routers.start("r2")
    third = routers.start("r3", advertise="127.0.0.1:1")
    await third.until(lambda router: "grpc" in router.lifecycle.addresses)
    problem = await seen(first, lambda copies, _: "r3" in copies and copies["r3"].problem)
    async with first.client() as client, asyncio.timeout(PATIENCE):
        while not {each.name: each.ready for each in await client.cluster.processes()}.get(second.name):
            await asyncio.sleep(0.02)
    async with running_console(first, target=routers.target) as console, console.browser() as operator:
        await operator.log_in(routers.token())
        page = await operator.get("/cluster")
        assert problem in unescape(page.text)
        assert "<option>r2</option>" in page.text
        assert problem in orjson.loads((await operator.get("/readyz")).body)["warnings"]
        refused = await operator.post("/cluster/hand-over", {"successor": "r1"})
        assert "r1 owns the shard already" in unescape(refused.text)
        await operator.get("/cluster")
        answer = await operator.post("/cluster/hand-over", {"successor": "r2", "reason": "a new disk"})
        assert (answer.status, answer.headers["Location"]) == (303, "/cluster")
        await seen(second, lambda _, owner: owner.router == "r2" and owner.serving)
    async with second.client() as client:
        entries = [entry async for entry in client.audit.list(action="ShardService/HandOver")]
    assert [(entry.target, entry.reason, entry.error) for entry in entries] == [
        ("r2", "a new disk", ""),
        ("r1", "", "ALREADY_OWNER"),
    ]


async def test_hand_overs_that_are_impossible_are_refused_clearly(routers):
    first = routers.start("r1")
    await routers.owner()
    async with first.client() as client:
        for router, reason, words in (
            ("r1", "ALREADY_OWNER", "r1 owns the shard already"),
            ("r9", "ROUTER_UNKNOWN", "no router named r9"),
            ("", "STANDBY_NOT_READY", "no standby is caught up with r1: there is none"),
        ):
            with pytest.raises(FlowhookError, match=words) as raised:
                await client.cluster.hand_over(router)
            assert raised.value.reason == reason


def sender_token(routers):
    return create_token(routers.directory, "sender", [TokenScope.INGEST])


@pytest.mark.parametrize(("role", "permitted"), [("sender", False), ("view", False), ("edge", True), ("runner", False)])
async def test_only_the_token_of_an_edge_speaks_for_edges(routers, role, permitted):
    first = routers.start("r1")
    await routers.owner()
    request = pb.ReportReachabilityRequest(process="edge-1", role="edge", routers=[{"router": "r1", "cause": "x"}])
    token = sender_token(routers) if role == "sender" else routers.token(role)
    async with connect(first.target, token) as channel:
        call = ShardServiceStub(channel).ReportReachability(request)
        if permitted:
            await call
        else:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "request_",
    [
        pb.ReportReachabilityRequest(process="", role="edge"),
        pb.ReportReachabilityRequest(process="e" * 64, role="edge"),
        pb.ReportReachabilityRequest(process="edge-1", role="admin"),
        pb.ReportReachabilityRequest(process="edge-1\n", role="edge"),
        pb.ReportReachabilityRequest(process="edge-1", role="edge", routers=[{"router": ""}]),
        pb.ReportReachabilityRequest(process="edge-1", role="edge", routers=[{"router": "r", "cause": "c" * 201}]),
        pb.ReportReachabilityRequest(process="edge-1", role="edge", routers=[{"router": "r"}] * 65),
    ],
)
async def test_a_report_out_of_bounds_is_refused(routers, request_):
    first = routers.start("r1")
    await routers.owner()
    async with connect(first.target, routers.token()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ShardServiceStub(channel).ReportReachability(request_)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_has_no_token_learns_which_process_answers_and_nothing_else(routers):
    first = routers.start("r1")
    await routers.owner()
    async with open_plain(first.target) as channel, connect(first.target, sender_token(routers)) as known:
        answer = await ShardServiceStub(channel).Identify(pb.IdentifyRequest())
        listed = await ShardServiceStub(known).WatchShards(pb.WatchShardsRequest()).read()
    assert [each.instance for each in listed.routers] == [answer.instance]
    assert [field.name for field, _ in answer.ListFields()] == ["instance"]


async def test_any_router_tells_of_the_shard_when_the_owner_is_not_reached(routers):
    first = routers.start("r1")
    await routers.owner()
    async with AsyncClient(f"127.0.0.1:1,{first.target}", token=routers.token(), timeout=PATIENCE) as client:
        (shard,) = (await client.cluster.shards()).shards
    assert shard.owner == "r1"
    with pytest.raises(PermissionDeniedError):
        async with AsyncClient(f"127.0.0.1:1,{first.target}", token=sender_token(routers)) as client:
            await client.cluster.shards()


async def test_commands_that_know_the_standby_alone_reach_the_owner(routers):
    routers.start("r1")
    first = await routers.owner()
    second = routers.start("r2")
    await second.until(lambda router: router.lifecycle.ready.is_set())
    async with first.client() as client:
        await client.flows.apply([document("demo")])
        accepted = await client.ingest("demo", b'{"total": 3}')
    environment = {"FLOWHOOK_ROUTER": second.target, "FLOWHOOK_DATA_DIR": str(routers.directory)}
    for command in (["flows", "list", "--json"], ["executions", "list", "--jq", ".body.total == 3", "--json"]):
        done = await asyncio.to_thread(flowhook_process, *command, **environment)
        assert (done.code, len(done.rows)) == (0, 1), done.err
    assert done.rows[0]["id"] == accepted
