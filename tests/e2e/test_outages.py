"""A destination that dies, hangs, asks for time or goes up and down, for three flows, two of which are ordered.

Nothing faults, the order is exact, one call at a time tries again, flows that call something else go on meanwhile, and
whatever is killed, all goes on. `make test-release` tries it with 2,000 executions, and with routers that take over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.patience import PATIENCE
from support.systems import kill

from flowhook.errors import UnavailableError
from flowhook.model import Status
from harness.cluster import running_cluster

pytestmark = pytest.mark.e2e

FEW, MANY = 60, 667  # executions of each flow
KEYS = 10
FAILURES = 5
PROBE = 2.0
DRAIN = 10.0  # seconds after which all that wait have followed; until then twice as many after each second
FIRST = 10  # executions that follow at once
FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
execution: {{outage: {{failures: 5, probe: PT2S}}{more}}}
do:
  - pay: {{call: http, with: {{method: post, endpoint: "{url}", body: {{flow: {name}, n: "${{ .n }}"}}}}}}
"""
ORDERED = ("ordered-1", "ordered-2")
FLOWS = (*ORDERED, "unordered")
WAITING = len(ORDERED) * KEYS - len(FLOWS)  # besides those of the unordered flow; one of each flow may try again
PATIENT = ", retry: {delay: PT1H, limit: {attempt: {count: 3}}}"
# one whose second try meets an outage again waits five minutes for the third, by default
EAGER = ", retry: {delay: PT2S, limit: {attempt: {count: 1000}}}"
OTHER = b"document: {dsl: 1.0.3, namespace: default, name: other, version: 1.0.0}\ndo: [{ok: {set: {ok: true}}}]\n"
HELD = b"""
document: {dsl: 1.0.3, namespace: default, name: held, version: 1.0.0}
execution: {order_by: {key: "${ .key }", on_fault: hold}}
do: [{no: {raise: {error: {type: "https://example.com/no", status: 400, title: "No"}}}}]
"""


class Target:
    """What flows call: `mode` says how it fails, empty: it does not."""

    def __init__(self, mode):
        self.mode = mode
        self.taken = []
        self.taken_at = []
        self.refused = []

    async def handle(self, request):
        body = await request.json()
        flapped = self.mode == "flaps" and int(time.monotonic() / 10) % 2
        if not self.mode or flapped:
            self.taken.append((body["flow"], body["n"]))
            self.taken_at.append(time.monotonic())
            return web.json_response({})
        self.refused.append(time.monotonic())
        if self.mode == "hangs":
            await asyncio.sleep(PATIENCE)
        if self.mode == "dies":
            request.transport.abort()
        headers = {"Retry-After": "1"} if self.mode == "asks" else {}
        return web.Response(status=503, headers=headers)

    def check_order(self):
        """Each event of a key was taken after those before it, whatever was repeated as its result was not known."""
        by_key = defaultdict(list)
        for flow, number in dict.fromkeys(self.taken):
            if flow in ORDERED:
                by_key[flow, number % KEYS].append(number)
        for numbers in by_key.values():
            assert numbers == sorted(numbers)

    def check_ramp(self):
        """Of the unordered flow, all of whose executions waited, no more followed than the ramp permits."""
        times = [at for (flow, _), at in zip(self.taken, self.taken_at, strict=True) if flow == "unordered"]
        for number, at in enumerate(times):
            elapsed = at - times[0]  # since the call that succeeded, of which the router heard later
            assert elapsed >= DRAIN or number <= 1 + FIRST * 2**elapsed


@asynccontextmanager
async def serving(target):
    application = web.Application()
    application.router.add_post("/", target.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.1)


async def statuses(client):
    return Counter([each.status async for each in client.executions.list()])


async def has_status(client, execution_id, status):
    return (await client.executions.get(execution_id)).execution.status is status


async def waiting(client, count):
    """Wait until so many executions wait before their calls; return the incident."""
    found = []

    async def wait():
        found[:] = [each async for each in client.incidents.list(open_only=True)]
        return sum(each.waiting for each in found) >= count

    await until(wait)
    [incident] = found
    return incident


def documents(url, more=""):
    order = ', order_by: "${ .key }"'
    return [FLOW.format(name=each, url=url, more=more + order * (each in ORDERED)).encode() for each in FLOWS]


async def send(client, count):
    for number in range(count):
        await asyncio.gather(*(client.ingest(each, {"n": number, "key": f"k{number % KEYS}"}) for each in FLOWS))


@pytest.mark.parametrize(
    ("mode", "count"),
    [
        ("dies", FEW),
        *(pytest.param(mode, MANY, marks=pytest.mark.release) for mode in ("dies", "hangs", "asks", "flaps")),
    ],
)
async def test_nothing_faults_the_order_is_exact_and_what_is_killed_goes_on(mode, count):
    target = Target(mode)
    environment = {"FLOWHOOK_HTTP_TIMEOUT": "2"}
    async with (
        serving(target) as url,
        running_cluster("--allow-private-addresses", environment=environment) as cluster,
    ):
        client = cluster.client
        await client.flows.apply([*documents(url, EAGER if mode == "flaps" else ""), OTHER])
        await send(client, count)
        if mode != "flaps":
            await waiting(client, count + WAITING)
            before, began = len(target.refused), time.monotonic()
            other = await client.ingest("other", {})
            await asyncio.sleep(2 * PROBE)
            # one probe at a time for all flows
            assert len(target.refused) - before <= (time.monotonic() - began) / PROBE + 1
            await until(lambda: has_status(client, other, Status.COMPLETED))
        await kill(cluster, "runner-1", "runner-2", "router-1", "edge-1")
        if mode != "flaps":
            incident = await waiting(client, count + WAITING)
            target.mode = ""
            await client.incidents.probe(incident.id)

        found = Counter()

        async def all_ended():
            nonlocal found
            found = await statuses(client)
            return all(status.ended for status in found)

        await until(all_ended)
        assert found == {Status.COMPLETED: count * len(FLOWS) + (mode != "flaps")}
    assert set(target.taken) == {(flow, number) for flow in FLOWS for number in range(count)}
    target.check_order()
    if mode != "flaps":
        target.check_ramp()


@pytest.mark.release
async def test_another_router_takes_over_in_the_middle():
    """It knows who waits, for the destination or for another try, and who keeps the turn of an order key."""
    target = Target("dies")
    options = ("--allow-private-addresses", "--routers", "3", "--storage", "nats:", "--runners", "1")
    async with serving(target) as url, running_cluster(*options) as cluster:
        client = cluster.client
        patient = FLOW.format(name="patient", url=url, more=PATIENT).encode()
        await client.flows.apply([*documents(url), patient, HELD])
        holds = await client.ingest("held", {"key": 1})
        await until(lambda: has_status(client, holds, Status.FAULTED))
        blocked = await client.ingest("held", {"key": 1})
        for number in range(FAILURES):
            await client.ingest("patient", {"n": number})

        async def are_retrying():
            found = [each.retry async for each in client.executions.list(flow_id="patient")]
            return sum(each is not None for each in found) == FAILURES

        await until(are_retrying)
        await client.ingest("patient", {"n": FAILURES})
        await send(client, FEW)
        incident = await waiting(client, FEW + WAITING)

        async def taken_over(by):
            """Wait for a new owner, and look at what it knows."""
            [before] = (await client.cluster.shards()).shards
            await by(before.owner)

            async def serves():
                try:
                    [shard] = (await client.cluster.shards()).shards
                except UnavailableError:
                    return False
                return shard.serving and shard.epoch > before.epoch

            await until(serves)
            after = await waiting(client, FEW + WAITING)
            assert (after.id, after.open_time_ms) == (incident.id, incident.open_time_ms)
            assert {*after.flows} == {*FLOWS, "patient"}
            await until(are_retrying)
            assert (await client.executions.get(holds)).execution.keeps_turn
            found = (await client.executions.get(blocked)).execution
            assert (found.status, found.blocked_by.execution_id) == (Status.PENDING, holds)

        await taken_over(lambda _owner: client.cluster.hand_over())
        await taken_over(lambda owner: kill(cluster, owner, "runner-1"))
        target.mode = ""
        number = FEW * len(FLOWS) + FAILURES + 1

        async def all_completed():
            return await statuses(client) == {Status.COMPLETED: number, Status.FAULTED: 1, Status.PENDING: 1}

        await until(all_completed)
        await client.executions.resolve(holds, "seen to")
        await until(lambda: has_status(client, blocked, Status.FAULTED))
    assert len({*target.taken}) == number
    target.check_order()
    target.check_ramp()
