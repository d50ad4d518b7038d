"""A whole edge on port 0, and the router that it needs, in memory."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry
from support.memory_router import MemoryRouter
from support.patience import PATIENCE
from support.stock_waivers import MAYBE_RESET, MODULES, RESET, SECONDS, WAIVERS

from bench.stock_edge import StockServer
from edge.app import serve
from edge.http.server import Server
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings
from flowhook.v1 import (
    failure_pb2,
)

SECRET = b"a secret of sixteen"
LONG = 3600.0
"""Seconds of each timeout that a test does not wait for: nothing else than what it is about ends a connection."""

TIMEOUTS = ("header_timeout", "body_timeout", "idle_timeout", "router_timeout")

HMAC = {"hmac": {"secret": "key", "header": "X-Signature"}}


@dataclass
class ReceivedResponse:
    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes = b""

    def json(self):
        return orjson.loads(self.body)


@dataclass
class HttpSender:
    """One connection to the edge."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str = "edge.test"

    def write(self, data):
        self.writer.write(data)

    async def request(self, method, target, *, body=None, headers=(), version="1.1"):
        lines = [f"{method} {target} HTTP/{version}", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return await self.response(head=method == "HEAD")

    async def response(self, *, head=False):
        """Read one response; raises IncompleteReadError when the connection ends before there is one."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head else int(headers.get("content-length", "0"))
        body = await asyncio.wait_for(self.reader.readexactly(length), PATIENCE)
        return ReceivedResponse(int(start.split(" ")[1]), headers, body, raw)

    async def at_eof(self):
        """Return what else the edge sends until it closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionError:
            return b""

    def close(self):
        self.writer.close()


@dataclass
class RunningEdge:
    """A running edge, its router, and connections to it."""

    router: MemoryRouter
    settings: EdgeSettings
    lifecycle: ProcessState
    port: int
    task: asyncio.Task
    senders: list[HttpSender] = field(default_factory=list)

    async def connect(self, address="127.0.0.1"):
        sender = HttpSender(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0)))
        self.senders.append(sender)
        return sender

    async def post(self, target, body=b"{}", headers=(("Content-Type", "application/json"),), method="POST"):
        sender = await self.connect()
        return await sender.request(method, target, body=body, headers=headers)

    def events(self):
        return list(self.router.stored.values())


def signed(body, key=SECRET):
    return [
        ("Content-Type", "application/json"),
        ("X-Signature", hmac.new(key, body, hashlib.sha256).hexdigest()),
    ]


@pytest.fixture
def sign():
    """Give the headers of a JSON request that `HMAC` lets in."""
    return signed


@pytest.fixture
def hmac_auth():
    return HMAC


@pytest.fixture
async def router() -> AsyncIterator[MemoryRouter]:
    memory = MemoryRouter()
    memory.put_secret("key", SECRET)
    await memory.start()
    yield memory
    memory.gate.set()
    await memory.stop()


SERVERS = {"edge": Server, "stock": StockServer}
MAY_BE_RESET = pytest.StashKey[bool]()


def pytest_generate_tests(metafunc):
    if Path(metafunc.definition.path).stem in MODULES and "http_server" in metafunc.fixturenames:
        stock = pytest.param("stock", marks=pytest.mark.release)
        metafunc.parametrize("http_server", ["edge", stock], indirect=True)


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "callspec") and item.callspec.params.get("http_server") == "stock":
            reason = next((why for name, why in WAIVERS.items() if fnmatchcase(item.nodeid, f"*/{name}*")), None)
            if reason is not None:
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
                item.add_marker(pytest.mark.timeout(SECONDS, func_only=True))
            elif any(fnmatchcase(item.nodeid, f"*/{name}") for name in MAYBE_RESET):
                item.stash[MAY_BE_RESET] = True


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Skip a test whose connection was reset, where that depends on how far its sender was."""
    try:
        return (yield)
    except ConnectionResetError:
        if MAY_BE_RESET not in pyfuncitem.stash:
            raise
        pytest.skip(RESET)


@pytest.fixture
def http_server(request):
    """The class of the HTTP server of the edges of a test: Tornado's own one for some."""
    return SERVERS[getattr(request, "param", "edge")]


@pytest.fixture
async def start_edge(router, tmp_path, http_server):
    """Start an edge with settings of one's own."""
    edges = []

    async def start(*, wait_ready=True, registry=None, limits=None, **settings):
        chosen = EdgeSettings(
            token="fhk_test",
            data_dir=tmp_path,
            **{"router": f"127.0.0.1:{router.port}", "http_port": 0, "drain_seconds": 1.0}
            | dict.fromkeys(TIMEOUTS, LONG)
            | settings,
        )
        lifecycle = ProcessState(name="edge-test", role="edge")
        task = asyncio.create_task(
            serve(chosen, lifecycle, registry=registry or CollectorRegistry(), server=http_server, limits=limits)
        )
        while "http" not in lifecycle.addresses and not task.done():
            await asyncio.sleep(0)
        if task.done():
            await task
        if wait_ready:
            await asyncio.wait_for(lifecycle.ready.wait(), PATIENCE)
        port = int(lifecycle.addresses["http"].rpartition(":")[2])
        edges.append(RunningEdge(router, chosen, lifecycle, port, task))
        return edges[-1]

    yield start
    for edge in edges:
        for sender in edge.senders:
            sender.close()
        edge.lifecycle.stop.set()
        await asyncio.wait_for(edge.task, PATIENCE)


@pytest.fixture
async def edge(start_edge):
    return await start_edge()


@pytest.fixture
async def open_flow(router):
    """A flow `open` that takes anything."""
    router.put_flow("open")


@pytest.fixture
async def quiet(caplog):
    """Nothing of the test may make anybody log an error, let alone a traceback."""
    with caplog.at_level(logging.WARNING):
        yield
    loud = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not loud, [record.getMessage() for record in loud]


@pytest.fixture
def failure():
    """Make the failure of one event."""

    def make(reason, *, retry_after=0, retryable=True):
        disposition = failure_pb2.DISPOSITION_RETRYABLE if retryable else failure_pb2.DISPOSITION_PERMANENT
        return failure_pb2.Failure(
            reason=reason, message="why", disposition=disposition, retry_after_seconds=retry_after
        )

    return make
