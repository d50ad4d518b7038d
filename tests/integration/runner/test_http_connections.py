"""`call: http`: what it connects to, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading

import orjson
import pytest
from aiohttp import web
from support.calls import echo, kind
from support.patience import PATIENCE

from flowhook.attach.messages import DestinationState, DestinationUpdate
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.interpreter.errors import TaskFault
from runner.interpreter.retry_policy import is_transient
from runner.outbound.bound_client import BoundClient
from runner.outbound.destinations import CallGate, Destinations, Permit
from runner.outbound.dns import MAX_LOOKUPS
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor


async def test_a_hanging_server_is_a_timeout(call, http_server):
    forever = asyncio.Event()

    async def hang(_request):
        await forever.wait()
        return web.Response()

    base = await http_server(hang)
    error = await call(method="get", endpoint=base, seconds=0.2)
    forever.set()
    assert kind(error) == ("timeout", 408)


async def test_a_server_that_stops_in_the_middle_of_its_answer_is_a_timeout(call, http_server):
    forever = asyncio.Event()

    async def drip(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await forever.wait()
        return response

    base = await http_server(drip)
    error = await call(method="get", endpoint=base, seconds=0.2)
    forever.set()
    assert kind(error) == ("timeout", 408)


async def test_a_refused_connection_is_a_communication_error(call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await call(method="get", endpoint=f"http://user:pass@127.0.0.1:{taken.getsockname()[1]}/?k=secret")
    assert kind(error) == ("communication", 500)
    assert "refused" in error.detail.lower()
    assert not {"user", "pass", "secret"} & set(error.detail.replace("@", " ").replace(":", " ").split())


@pytest.mark.parametrize(("answers", "expected"), [(1, "ok"), (0, ("communication", 500))])
async def test_a_pooled_connection_that_the_server_closed_is_replaced_once_and_a_new_one_is_not(answers, expected):
    keys = []

    async def serve(reader, writer):
        for _ in range(answers):
            keys.append(re.search(rb"Idempotency-Key: (.*)\r\n", await reader.readuntil(b"\r\n\r\n"))[1])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")
        with contextlib.suppress(asyncio.IncompleteReadError):  # of the connection that the client closes at the end
            await reader.readuntil(b"\r\n\r\n")  # one request more than it answers
            keys.append(b"unanswered")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, HttpClient(address_policy=AddressPolicy.ALL) as http:
        settings = RunnerSettings(http_timeout=2.0)
        caller = EffectExecutor(components(), http, settings, SharedResources(settings))
        for number in range(2 if answers else 1):
            effect = Perform(f"/do/0/ask#{number}", "http", {"method": "post", "endpoint": endpoint}, "/do/0/ask")
            result = await caller.perform("evt_1", effect, None)
            assert (kind(result.error) if result.error else orjson.loads(result.output)) == expected
    assert keys == ([b"evt_1:/do/0/ask#0", b"unanswered", b"evt_1:/do/0/ask#1"] if answers else [b"unanswered"])


async def test_an_unknown_host_is_a_communication_error(call):
    error = await call(method="get", endpoint="http://no-such-host.invalid/")
    assert kind(error) == ("communication", 500)


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * 1024 * 1024])
async def test_an_answer_that_is_too_large_is_refused(call, http_server, size):
    async def large(_request):
        response = web.Response(body=b"x" * size)
        response.enable_compression()
        return response

    base = await http_server(large)
    error = await call(method="get", endpoint=base)
    assert kind(error) == ("communication", 500)
    assert "larger" in error.detail


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "127.1",
    ],
)
async def test_private_addresses_are_refused_where_they_are_connected_to(call, http_server, host):
    hits = []

    async def count(_request):
        hits.append(1)
        return web.Response()

    base = await http_server(count)
    port = base.rpartition(":")[2]
    error = await call(allow=False, method="get", endpoint=f"http://{host}:{port}/")
    assert not hits
    if host not in ("2130706433", "127.1"):
        assert "not allowed" in error.detail
        assert kind(error) == ("communication", 403)
        assert not is_transient(error)


async def test_names_that_nobody_answers_for_hold_up_no_others(http_server, monkeypatch):
    answered, requested = threading.Event(), []
    look_up = socket.getaddrinfo

    def patient(host, *arguments, **options):
        if str(host).endswith(".invalid"):
            requested.append(host)
            answered.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", patient)
    base = await http_server(echo)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http:
        deadline = asyncio.get_running_loop().time() + 5
        bound = BoundClient(http, "k", deadline)
        hanging = range(MAX_LOOKUPS - 1)
        tasks = [asyncio.create_task(bound.request("GET", f"http://{number}.invalid/")) for number in hanging]
        try:
            while len(requested) < len(tasks):
                await asyncio.sleep(0.01)
            assert (await bound.request("GET", base.replace("127.0.0.1", "localhost"))).status == 200
        finally:
            answered.set()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("status", "asked", "expected"),
    [(101, "", (True, 0, 0)), (404, "", (True, 0, 0)), (503, "7", (False, 1, 7000))],
)
async def test_whether_a_server_takes_a_websocket_says_whether_it_is_up(http_server, status, asked, expected):
    async def accept(request):
        if status != 101:
            return web.Response(status=status, headers={"Retry-After": asked} if asked else {})
        accepted = web.WebSocketResponse()
        await accepted.prepare(request)
        async for _ in accepted:
            pass
        return accepted

    base = await http_server(accept)
    reports = []
    destinations = Destinations(reports.append)
    destinations.update([DestinationUpdate("f", base, DestinationState.PARKS)], renewed=False)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        gate = CallGate(destinations, "f", Permit(base, ""))
        bound = BoundClient(http, "k", deadline, _gate=gate)
        with contextlib.nullcontext() if status == 101 else pytest.raises(TaskFault):
            async with bound.websocket(base, headers={}) as socket_:
                await socket_.send_str("hello")
    gate.timed_out()  # no request is under way
    [(flow_id, origin, *outcome)] = reports
    assert (flow_id, origin) == ("f", base)
    assert (outcome[0], outcome[1], outcome[3]) == expected


async def test_a_server_says_by_the_head_of_a_stream_when_to_ask_again(http_server):
    async def refuse(_request):
        return web.Response(status=503, headers={"Retry-After": "7"})

    base = await http_server(refuse)
    reports = []
    async with HttpClient(address_policy=AddressPolicy.ALL) as http:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        bound = BoundClient(http, "k", deadline, _gate=CallGate(Destinations(reports.append), "f"))
        async with bound.stream("POST", base) as response:
            assert response.status == 503
    assert [(each.failures, each.retry_after_ms) for each in reports] == [(1, 7000)]
