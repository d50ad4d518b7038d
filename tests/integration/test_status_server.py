"""The private port of a process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from support.patience import PATIENCE

from flowhook.errors import UnavailableError
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
        assert (await get(port, "/metrics"))[0] == 404
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
