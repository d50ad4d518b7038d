"""The private port of a process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.patience import PATIENCE

from flowhook.errors import UnavailableError
from flowhook.process.metrics import OPENMETRICS_TYPE, TEXT_TYPE, ExposedMetrics, process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.status_server import MAX_HEAD, StatusServer


@pytest.fixture
async def state():
    return ProcessState(name="edge-1", role="edge")


@asynccontextmanager
async def serving(state, **options):
    async with StatusServer(state, **options).serving("127.0.0.1", 0) as port:
        yield port


async def exchange(port, request):
    """Send bytes, and return all that is answered until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def get(port, path, method="GET"):
    answer = await exchange(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_it_says_whether_the_process_serves_and_else_why_not(state):
    async with serving(state) as port:
        status, body = await get(port, "/healthz")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        state.detail = "flows can't be watched: ROUTER_AWAY"
        status, body = await get(port, "/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": [state.detail], "warnings": []})
        state.ready.set()
        state.warnings["tokens"] = "tokens.json is damaged"
        status, body = await get(port, "/readyz?x=1")
        expected = {"ready": True, "reasons": [], "warnings": ["tokens.json is damaged"]}
        assert (status, json.loads(body)) == (200, expected)
        state.refusal = "the router refuses the token: it expired"
        assert json.loads((await get(port, "/readyz"))[1])["reasons"] == [state.refusal]


async def test_it_answers_nothing_else(state):
    state.ready.set()
    async with serving(state) as port:
        assert (await get(port, "/other"))[0] == 404
        assert (await get(port, "/readyz", "POST"))[0] == 405
        assert await get(port, "/readyz", "HEAD") == (200, b"")
        assert b" 400 " in await exchange(port, b"hello\r\n\r\n")
        assert b" 400 " in await exchange(port, b"GET /" + b"x" * 2 * MAX_HEAD + b" HTTP/1.1\r\n\r\n")


async def test_those_that_say_nothing_are_dropped_and_keep_nobody_waiting_for_long(state):
    state.ready.set()
    async with serving(state, max_connections=2, seconds=1.0) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for reader, _ in silent:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises((ConnectionError, EOFError)):
                    await reader.readexactly(1)
        assert (await get(port, "/readyz"))[0] == 200
        for _, writer in silent:
            writer.close()


async def test_a_port_in_use_is_said(state):
    async with serving(state) as port:
        with pytest.raises(UnavailableError, match=rf"can't listen on 127.0.0.1:{port}") as caught:
            async with StatusServer(state).serving("127.0.0.1", port):
                pass
        assert caught.value.reason == "PORT_UNAVAILABLE"


@asynccontextmanager
async def measured(state):
    async with process_metrics(state, CollectorRegistry()), serving(state) as port:
        yield port


async def scrape(port, accept):
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT: {accept}\r\n\r\n"
    answer = await exchange(port, request.encode("latin-1"))
    head, _, body = answer.partition(b"\r\n\r\n")
    kind = next(line[14:].decode() for line in head.split(b"\r\n") if line.startswith(b"Content-Type: "))
    return int(head.split()[1]), kind, body.decode()


async def test_metrics_are_in_the_format_that_is_asked_for(state):
    async with measured(state) as port:
        status, kind, text = await scrape(port, "text/plain")
        assert (status, kind) == (200, TEXT_TYPE)
        assert "flowhook_build_info" in {each.name for each in text_string_to_metric_families(text)}
        accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
        status, kind, text = await scrape(port, accept)
        assert (status, kind) == (200, OPENMETRICS_TYPE)
        assert "flowhook_build_info" in {each.name for each in openmetrics.text_string_to_metric_families(text)}
        assert await get(port, "/metrics", "HEAD") == (200, b"")


async def test_metrics_say_whether_the_process_serves(state):
    for serves, value in (state.ready.clear, 0), (state.ready.set, 1), (state.stop.set, 0):
        serves()
        async with measured(state) as port:
            assert f"\nflowhook_ready {value}.0\n" in (await scrape(port, "text/plain"))[2]


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "," * 4000,
        ";q=" * 2000,
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=1e9;q",
        "\xff/\x00",
    ],
)
async def test_what_an_accept_header_says_amiss_counts_as_not_said(state, accept):
    async with measured(state) as port:
        status, kind, text = await scrape(port, accept)
        assert (status, kind) == (200, TEXT_TYPE)
        assert text.startswith("# HELP")


async def test_many_that_scrape_share_one_text(state):
    rendered = 0

    async def metrics(_exposed):
        nonlocal rendered
        rendered += 1
        return b"".join(b"# HELP a%d A.\n# TYPE a%d gauge\na%d 1.0\n" % (each, each, each) for each in range(1000))

    exposed = ExposedMetrics([CollectorRegistry()])
    with mock.patch.object(ExposedMetrics, "_render", autospec=True, side_effect=metrics):
        state.metrics = exposed.text
        async with serving(state) as port:
            texts = await asyncio.gather(*(scrape(port, "text/plain") for _ in range(30)))
    assert len(set(texts)) == 1
    assert rendered < 30


async def test_a_process_that_can_not_say_its_metrics_answers_503(state):
    async with serving(state) as port:
        assert (await get(port, "/metrics"))[0] == 503


async def test_a_slow_reader_is_cut_off_and_holds_up_nobody(state):
    async def metrics():
        return b"x" * 32_000_000  # more than the kernel buffers

    state.metrics = metrics
    server = StatusServer(state, max_connections=2, seconds=1.0)
    async with server.serving("127.0.0.1", 0) as port, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(15) == b"HTTP/1.1 200 OK"
        assert (await get(port, "/healthz"))[0] == 200
        while server._connections:
            await asyncio.sleep(0.01)
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(32_000_000)
        writer.close()
