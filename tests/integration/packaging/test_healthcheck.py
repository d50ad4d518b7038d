"""The health check of containers, as a process, against a router and a server of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest
from support.routers import running_router

SCRIPT = Path(__file__).parents[3] / "deploy" / "healthcheck.py"


async def check(*arguments):
    """Return the exit code and what was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        SCRIPT,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@contextlib.asynccontextmanager
async def answering(status):
    """Serve one HTTP answer on a free port."""

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1]
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(path), path))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_router_that_serves_is_healthy(tmp_path):
    async with running_router(tmp_path) as router:
        port = router.target.rpartition(":")[2]
        assert await check("grpc", port) == (0, "")
        assert await check("tcp", port) == (0, "")


async def test_http_is_healthy_when_it_answers_200():
    async with answering(b"200 OK") as port:
        assert await check("http", port, "/readyz") == (0, "")


async def test_http_is_unhealthy_when_it_answers_anything_else_and_the_answer_is_printed():
    async with answering(b"503 Service Unavailable") as port:
        assert await check("http", port, "/readyz") == (1, "ConnectionError: /readyz: 503 /readyz\n")


@pytest.mark.parametrize("kind", ["http", "grpc", "tcp"])
async def test_a_port_that_nobody_listens_on_is_unhealthy(kind):
    async with answering(b"200 OK") as port:
        pass
    code, output = await check(kind, port)

    assert code == 1
    assert "Error: " in output


async def test_an_unknown_kind_is_no_health():
    assert await check("udp", 1) == (1, "ValueError: udp: expected http, grpc or tcp\n")
