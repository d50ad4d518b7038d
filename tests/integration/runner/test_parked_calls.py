"""Calls without the HTTP client, and over that of a library, wait for a destination that is down, too."""

from __future__ import annotations

import contextlib
import socket

import pytest
from aiohttp import web
from support.asyncapi_documents import document
from support.nats_servers import nats_server
from support.patience import PATIENCE

from flowhook.attach.messages import DestinationState
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.outbound.destinations import CallGate, Destinations
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import NO_ATTACHMENTS
from runner.worker.effect_executor import EffectExecutor

LOGIN = {"basic": {"username": "flowhook", "password": "secret"}}


class Caller:
    """Makes calls of the flow `shop`; `reports` are those for the router, as `(origin, succeeded)`."""

    def __init__(self, executor):
        self._executor = executor
        self.reports = []
        self._destinations = Destinations(self._report)

    def _report(self, report):
        self.reports.append((report.origin, bool(report.successes)))

    def decide(self, origin, state):
        """Have the router decide about a destination."""
        self._destinations.update([("shop", origin, state)], renewed=False)

    async def call(self, function, **arguments):
        effect = Perform("/do/0/ask#0", function, arguments, "/do/0/ask")
        gate = CallGate(self._destinations, "shop")
        return await self._executor.perform("evt_1", effect, None, NO_ATTACHMENTS, gate)


@pytest.fixture
async def caller():
    settings = RunnerSettings(http_timeout=PATIENCE, allow_private_addresses=True)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        yield Caller(EffectExecutor(components(), http, settings, shared))


@pytest.fixture
def closed():
    """Return an address where nobody listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    return f"127.0.0.1:{port}"


def publishing(described, protocol):
    return {"document": described, "operation": "announce", "protocol": protocol, "message": {"payload": {"order": 7}}}


async def test_publishing_tells_that_a_broker_is_back(caller, documents, tmp_path):
    with nats_server(tmp_path) as broker:
        given = publishing(await documents(document(broker.address, "nats", address="plain")), "nats")
        origin = f"nats://{broker.address}"
        caller.decide(origin, DestinationState.WATCHED)
        assert (await caller.call("asyncapi", **given, authentication=LOGIN)).error is None
    assert caller.reports == [(origin, True)]


async def test_publishing_over_websocket_tells_that_a_server_is_back(caller, documents, http_server):
    async def accept(request):
        accepted = web.WebSocketResponse()
        await accepted.prepare(request)
        async for _message in accepted:
            pass
        return accepted

    origin = await http_server(accept)
    given = publishing(await documents(document(origin.removeprefix("http://"), "ws")), "ws")
    caller.decide(origin, DestinationState.WATCHED)
    assert (await caller.call("asyncapi", **given)).error is None
    assert caller.reports == [(origin, True)]
    caller.decide(origin, DestinationState.PARKS)
    assert (await caller.call("asyncapi", **given)).destination == origin


async def test_a_call_of_an_mcp_server_that_is_down_waits(caller, closed):
    origin = f"http://{closed}"
    given = {"method": "tools/list", "transport": {"http": {"endpoint": f"{origin}/mcp"}}}
    failed = await caller.call("mcp", **given)
    assert (failed.destination, caller.reports[0]) == ("", (origin, False))
    caller.decide(origin, DestinationState.PARKS)
    parked = await caller.call("mcp", **given)
    assert (parked.destination, parked.error) == (origin, None)
