"""What runners and edges say of a router when only one of the two speaks TLS: as much as a client says of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs
from support.certificates import Authority
from support.patience import PATIENCE
from support.routers import running_router

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
    async with asyncio.timeout(PATIENCE):
        while not any(text in str(detail) for detail in details):
            await asyncio.sleep(0.01)


async def test_a_runner_says_what_is_wrong(message):
    text, settings = message
    details = []
    link = session.Session(runner_id="r", components=(), build="1", capacity=1, losses_explained=True)
    async with open_channel(settings, "runner") as channel:
        attachment = RouterConnection(channel, link, time.monotonic)
        attachment.on_detached = details.append
        running = asyncio.create_task(attachment.run(None))
        await received(details, text)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_edge_says_what_is_wrong(message):
    text, settings = message
    async with open_channel(settings, "edge") as channel:
        with capture_logs() as lines:
            running = asyncio.create_task(
                FlowCache(RouterClient(channel), EdgeMetrics(), size=1, lookup_seconds=1.0).run()
            )
            await received(lines, text)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
