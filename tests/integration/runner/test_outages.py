"""Executions park before a destination that is down, and go on when it is back: a real target, router and worker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.patience import PATIENCE
from support.ports import free_port
from support.routers import running_router
from support.workers import running_worker

from flowhook.model import Status

FLOW = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
execution: {{outage: {outage}, retry: {{delay: PT0.1S, limit: {{attempt: {{count: 3}}}}}}{more}}}
do:
  - ask:
      call: http
      with: {{method: post, endpoint: {target}, body: {{n: "${{ .n }}"}}}}
"""
QUICK = "{failures: 3, probe: PT1S}"


class Target:
    """A server whose behaviour can be changed, and which remembers what it was asked."""

    def __init__(self):
        self.answers = True
        self.failing = set()  # numbers that are refused, whatever `answers` says
        self.status = 503
        self.headers = {}
        self.refused = []
        self.refused_at = []
        self.received = []
        self.changed = asyncio.Event()

    async def handle(self, request):
        number = (await request.json())["n"]
        self.changed.set()
        if self.answers and number not in self.failing:
            self.received.append(number)
            return web.json_response({})
        self.refused.append(number)
        self.refused_at.append(asyncio.get_running_loop().time())
        return web.Response(status=self.status, headers=self.headers)


@asynccontextmanager
async def serving(target, port=0):
    application = web.Application()
    application.router.add_post("/", target.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port or free_port())
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def target():
    return Target()


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(directory):
    async with (
        running_router(directory, lease_seconds=3600) as router,
        running_worker(router, allow_private_addresses=True),
        router.client() as client,
    ):
        yield client


def document(port, name="caller", outage=QUICK, more=""):
    return FLOW.format(name=name, target=f"http://127.0.0.1:{port}/", outage=outage, more=more).encode()


async def statuses(client):
    return [each.status async for each in client.executions.list()]


async def test_executions_park_before_what_is_down_and_go_on_when_it_is_back(tmp_path, target):
    target.answers = False
    async with serving(target) as port, cluster(tmp_path) as client:
        await client.flows.apply([document(port)])
        for number in range(40):
            await client.ingest("caller", {"n": number})

        await until(lambda: waits_for(client, at_least=39))  # one of them may try again
        assert set(await statuses(client)) <= {Status.WAITING, Status.RUNNING, Status.PENDING}
        refused = len(target.refused)
        target.answers = True

        async def done():
            return set(await statuses(client)) == {Status.COMPLETED}

        await until(done)
        assert sorted(target.received) == list(range(40))
        assert len(target.refused) <= refused + 1


async def test_what_waits_still_waits_after_a_restart_and_then_goes_on(tmp_path, target):
    target.answers = False
    async with serving(target) as port:
        async with cluster(tmp_path) as client:
            await client.flows.apply([document(port, more=", order_by: '${ .key }'")])
            for number in range(30):
                await client.ingest("caller", {"n": number, "key": f"k{number % 3}"})
            await until(lambda: waits_for(client, at_least=2))
        refused = len(target.refused)
        async with cluster(tmp_path) as client:
            await until(lambda: have_grown(target.refused, refused))
            assert len(target.refused) <= refused + 1  # the first probe; all others wait
            target.answers = True
            await until(lambda: are_completed(client, 30))
    for key in range(3):
        assert [number for number in target.received if number % 3 == key] == list(range(key, 30, 3))
    assert len(target.received) == 30


PATIENT = "retry: {delay: PT1H, limit: {attempt: {count: 3}}}"


def patient(port, name="caller", more=""):
    retry = b"retry: {delay: PT0.1S, limit: {attempt: {count: 3}}}"
    return document(port, name=name, more=more).replace(retry, PATIENT.encode())


async def test_those_whose_next_try_is_far_away_go_on_when_it_is_back_also_after_a_restart(tmp_path, target):
    """A try that failed by an error of the server counts: the next one is an hour away."""
    target.answers, target.status = False, 500
    async with serving(target) as port:
        async with cluster(tmp_path) as client:
            await client.flows.apply([patient(port, more=", order_by: '${ .key }'")])
            for numbers, waiting in ((range(3), 0), (range(3, 8), 1)):  # with the third failure it is down, for others
                for number in numbers:
                    await client.ingest("caller", {"n": number, "key": f"k{number % 4}"})
                await until(lambda waiting=waiting: are_retrying(client, 3, waiting))
            assert sorted(target.refused)[:3] == sorted(set(target.refused))[:3]
        target.answers = True
        async with cluster(tmp_path) as client:
            await until(lambda: are_completed(client, 8))
    for key in range(4):
        assert [number for number in target.received if number % 4 == key] == [key, key + 4]


async def test_a_success_at_a_destination_ends_the_wait_for_the_next_try_there_also_after_a_restart(tmp_path, target):
    """One failure is no outage yet; the next try would be an hour away."""
    target.answers = False
    async with serving(target) as port:
        for number in range(2):
            async with cluster(tmp_path) as client:
                if not number:
                    await client.flows.apply([patient(port), patient(port, name="other")])
                await client.ingest("caller", {"n": number})
                await until(lambda number=number: have_tried(client, [1] * (number + 1)))
        async with cluster(tmp_path) as client:
            assert [each async for each in client.incidents.list()] == []
            target.answers = True
            other = await client.ingest("other", {"n": 2})
            await until(lambda: has_completed(client, other))
            assert await have_tried(client, [1, 1])  # it says nothing of the calls of this flow
            await client.ingest("caller", {"n": 3})
            await until(lambda: are_completed(client, 4))
    assert target.received[:2] == [2, 3]
    assert sorted(target.received) == [0, 1, 2, 3]


async def test_a_call_that_fails_always_keeps_its_tries_when_others_succeed(tmp_path, target):
    """It follows a success once; then its policy says when it is tried."""
    async with serving(target) as port, cluster(tmp_path) as client:
        target.failing = {0, 1}
        await client.flows.apply([patient(port)])
        for fails, tries in ((0, [1]), (1, [1, 2])):
            await client.ingest("caller", {"n": fails})
            await until(lambda tries=tries: have_tried(client, tries))
            await client.ingest("caller", {"n": 2})
            await until(lambda tries=tries: have_tried(client, [2] * len(tries)))
    assert target.refused == [0, 0, 1, 1]


async def have_tried(client, tries):
    """Whether as many executions wait for another try, after so many each."""
    found = [each.retry async for each in client.executions.list()]
    return sorted(each.tries for each in found if each is not None) == tries


async def has_completed(client, execution_id):
    return (await client.executions.get(execution_id)).execution.status is Status.COMPLETED


async def are_retrying(client, number, waiting):
    """Whether so many executions wait for their next try, and so many before their calls to what is down."""
    found = [each async for each in client.executions.list()]
    down = [each async for each in client.incidents.list(open_only=True)]
    retrying = sum(each.retry is not None for each in found)
    return retrying >= number and bool(down) and sum(each.waiting for each in down) >= waiting


async def have_grown(items, size):
    return len(items) > size


async def waits_for(client, at_least):
    """Whether so many executions wait before their calls."""
    found = [each async for each in client.incidents.list(open_only=True)]
    return sum(each.waiting for each in found) >= at_least


async def are_completed(client, number):
    found = await statuses(client)
    return found.count(Status.COMPLETED) == number == len(found)


async def test_a_destination_that_takes_no_connections_is_down_until_it_does(tmp_path, target):
    async with serving(target) as port:
        pass  # the port is free again
    async with cluster(tmp_path) as client:
        await client.flows.apply([document(port)])
        for number in range(20):
            await client.ingest("caller", {"n": number})
        await until(lambda: waits_for(client, at_least=19))
        async with serving(target, port):
            await until(lambda: are_completed(client, 20))
    assert sorted(target.received) == list(range(20))


async def test_the_destination_says_when_to_try_again(tmp_path, target):
    target.answers, target.headers = False, {"Retry-After": "3"}
    async with serving(target) as port, cluster(tmp_path) as client:
        await client.flows.apply([document(port)])
        for number in range(10):
            await client.ingest("caller", {"n": number})
        await until(lambda: waits_for(client, at_least=9))
        refused = len(target.refused)
        await until(lambda: have_grown(target.refused, refused + 1))
    assert target.refused_at[-1] - target.refused_at[-2] >= 3


async def test_calls_of_one_flow_that_fail_let_another_flow_call(tmp_path, target):
    """They fail at another path of the same origin, as those of somebody who wants to stop the others."""
    target.answers = False
    async with serving(target) as port, cluster(tmp_path) as client:
        good = document(port, name="good").replace(b"method: post", b"method: get")
        await client.flows.apply([document(port, name="evil"), good])
        for number in range(20):
            await client.ingest("evil", {"n": number})
        await until(lambda: waits_for(client, at_least=19))
        target.answers = True
        execution_id = await client.ingest("good", {"n": 1})

        async def called():
            return (await client.executions.get(execution_id)).execution.status is not Status.PENDING

        await until(called)
        found = await client.executions.get(execution_id)
        assert found.execution.status is not Status.WAITING


async def test_a_timeout_of_the_execution_ends_the_wait(tmp_path, target):
    target.answers = False
    async with serving(target) as port, cluster(tmp_path) as client:
        await client.flows.apply([document(port), document(port, name="hasty") + b"timeout: {after: PT4S}\n"])
        for number in range(3):
            await client.ingest("hasty", {"n": number})
        await until(lambda: waits_for(client, at_least=2))

        async def all_ended():
            return set(await statuses(client)) == {Status.FAULTED}

        await until(all_ended)
