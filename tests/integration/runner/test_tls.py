"""What runners and edges say of a router when only one of them speaks TLS, or when a connection ends that worked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs
from support.certificates import Authority
from support.cutting_relay import cutting_relay
from support.routers import running_router
from support.systems import until

from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient
from edge.router.flow_cache import FlowCache
from flowhook.client.channel import open_channel
from flowhook.process.settings import CommonSettings
from runner import session
from runner.worker.attach_client import RouterConnection

ASKS = "it closed the connection; check whether it requires TLS, or a client certificate"
HAS_NONE = "the TLS handshake failed; check that it uses TLS, with a certificate of an authority in the CA file"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture(params=[ASKS, HAS_NONE], ids=["the router asks for it", "the router has none"])
async def message(request, tmp_path, authority):
    """What is to be said, and the settings of a process that speaks TLS where the router does not, or the other way."""
    cert_file, key_file = authority.issue("router")
    tls = {"tls_cert_file": cert_file, "tls_key_file": key_file} if request.param == ASKS else {}
    async with running_router(tmp_path / "data", **tls) as router:
        ca_file = None if tls else authority.ca_file
        yield request.param, CommonSettings(data_dir=tmp_path / "data", router=router.target, router_ca_file=ca_file)


async def received(details, text):
    await until(lambda: any(text in str(detail) for detail in details), details)


@contextlib.asynccontextmanager
async def running(coroutine):
    task = asyncio.create_task(coroutine)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def attachment(channel):
    """Return a runner's connection, what it says of the router, and its session."""
    link = session.Session(runner_id="r", components=(), build="1", capacity=1, losses_explained=True)
    connection, details = RouterConnection(channel, link, time.monotonic), []
    connection.on_detached = details.append
    return connection, details, link


def flow_cache(channel, **options):
    return FlowCache(RouterClient(channel), EdgeMetrics(), size=1, lookup_seconds=1.0, **options)


async def test_a_runner_says_what_is_wrong(message):
    text, settings = message
    async with open_channel(settings, "runner") as channel:
        connection, details, _ = attachment(channel)
        async with running(connection.run(None)):
            await received(details, text)


async def test_an_edge_says_what_is_wrong(message):
    text, settings = message
    async with open_channel(settings, "edge") as channel:
        with capture_logs() as lines:
            async with running(flow_cache(channel).run()):
                await received(lines, text)


async def test_when_a_connection_ends_that_worked_nobody_is_sent_to_look_for_tls(tmp_path):
    async with running_router(tmp_path / "data") as router:
        with cutting_relay(router.target) as relay, capture_logs() as lines:
            settings = CommonSettings(data_dir=tmp_path / "data", router=relay.address)
            async with open_channel(settings, "runner") as for_runner, open_channel(settings, "edge") as for_edge:
                connection, details, link = attachment(for_runner)
                watching = asyncio.Event()
                cache = flow_cache(for_edge, on_state=lambda lack: None if lack else watching.set())
                async with running(connection.run(Mock())), running(cache.run()):
                    await until(watching.is_set, "the edge watches the flows")
                    await until(lambda: link.attached, "the runner is attached")
                    relay.cut()
                    await received(details, "it closed the connection")
                    await received(lines, "it closed the connection")
    assert "TLS" not in f"{details} {lines}"
