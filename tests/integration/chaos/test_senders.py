"""Senders repeat what is not accepted, take replies also later, and call flows back; the service records its calls."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from support.http_servers import http_server
from support.patience import PATIENCE, until

from chaos import flows
from chaos.senders import Senders
from chaos.service import running_service, token_of


class Edge:
    """Refuses the first request of each kind, accepts the next one, and has replies later."""

    def __init__(self):
        self.seen = []

    async def answer(self, request):
        body = await request.text()
        again = (request.path, body) in self.seen
        self.seen.append((request.path, body))
        if not again:
            return web.json_response({}, status=202 if request.method == "GET" else 503)
        if request.method == "GET":
            return web.json_response({"id": "evt_1", "token": token_of(f"{flows.REPLY}-0-0")})
        if "decision" in request.path:
            return web.json_response({}, status=410)
        delivery = (await request.json())["delivery"]
        answer = {"id": f"evt_{delivery}"} if flows.REPLY not in delivery else {"id": "evt_1"}
        return web.json_response(answer, status=202, headers={"Location": "/replies/x"})


@asynccontextmanager
async def sending():
    """Send to an edge until the block is left; yield the edge and the senders."""
    edge = Edge()
    async with asyncio.timeout(PATIENCE), http_server(edge.answer) as url, asyncio.TaskGroup() as tasks:
        senders = Senders(SimpleNamespace(http_url=url), large_bytes=100, patience=PATIENCE)
        running = tasks.create_task(senders.run(rate=1000))
        calling_back = tasks.create_task(senders.run_callbacks())
        yield edge, senders
        senders.stop()
        await running
        calling_back.cancel()


async def test_an_event_is_sent_until_it_is_accepted_and_a_reply_until_it_is_there():
    async with sending() as (_, senders):
        await until(lambda: senders.sent.answers)
    answer = senders.sent.answers[0]
    assert (answer.event_id, answer.later) == ("evt_1", True)
    assert answer.right == (answer.delivery == f"{flows.REPLY}-0-0")
    accepted = [each for each in senders.sent.acknowledged if each.flow_id == flows.CALLS]
    assert accepted
    assert {each.requests for each in accepted} == {2}
    assert accepted[0].event_id == f"evt_{accepted[0].delivery}"
    assert senders.sent.unanswered == []


async def test_a_flow_is_called_back_once_and_a_url_that_was_used_is_enough():
    async with sending() as (edge, senders):
        url = senders._cluster.http_url
        senders.call_back("x", f"{url}/hook/{flows.ONE_TIME}/decision/t")
        senders.call_back("x", f"{url}/hook/{flows.ONE_TIME}/decision/t")
        await until(lambda: "x" in senders.sent.callbacks)
        await until(lambda: any(each.startswith(flows.CORRELATED) for each in senders.sent.callbacks))
    assert sum(path.endswith("/t") for path, _ in edge.seen) == 2


@asynccontextmanager
async def serving():
    asked = []
    peers = SimpleNamespace(name_of=lambda connection: "runner-1")
    async with (
        asyncio.timeout(PATIENCE),
        running_service(peers, lambda *each: asked.append(each)) as service,
        aiohttp.ClientSession() as session,
    ):

        async def call(step, key="evt_1:/do/0/x#0", *, fails=False, **content):
            body = {"delivery": "x", "n": 1, "key": 2, **content}
            headers = {"Idempotency-Key": key}
            async with session.post(f"{service.urls[fails]}/{step}", json=body, headers=headers) as response:
                return response.status, await response.json()

        yield service, call, asked


async def test_the_service_records_who_called_and_what_it_answered():
    async with serving() as (service, call, asked):
        assert await call("ask", url="http://edge/t") == (200, {"token": token_of("x")})
        assert await call("content", text="abc", digest="other") == (200, {"token": token_of("x")})
    first, second = service.calls
    assert (first.execution_id, first.step, first.delivery, first.number, first.order_key, first.runner) == (
        "evt_1", "ask", "x", 1, 2, "runner-1",
    )  # fmt: skip
    assert first.began < first.answered <= second.began
    assert asked == [("x", "http://edge/t")]
    assert [each.intact for each in service.calls] == [True, False]


async def test_the_service_that_fails_does_so_in_several_ways_and_records_it():
    async with serving() as (service, call, _):

        async def tried(number):
            try:
                return (await call("unreliable", f"evt_{number}:x", fails=True))[0]
            except aiohttp.ClientError as error:
                return type(error)

        found, wanted = set(), {200, 500, 503, aiohttp.ServerDisconnectedError}
        calls = [asyncio.create_task(tried(number)) for number in range(200)]
        for each in asyncio.as_completed(calls):
            found.add(await each)
            if wanted <= found:
                break
        for each in calls:  # some are left unanswered
            each.cancel()
    assert wanted <= found
    succeeded = {call.succeeded for call in service.calls if call.answered is not None}
    assert succeeded == {True, False}
