"""A stand-in for a process of the cluster: the real process frame around a server that answers 200 to everything.

`CHILD_PLAN` in the environment says how each start goes, by name: a folder where `NAME.usage`, `NAME.refuse`,
`NAME.crash`, `NAME.held` (not ready while it is there, for the reason that it contains) or `NAME.stubborn` ask for that
behaviour, `not-served` and `flows-unknown` for answers, and where `events` collects what happened, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from flowhook.errors import InvalidError
from flowhook.process.lifecycle import run
from flowhook.process.settings import CommonSettings
from flowhook.process.supervisor_socket import receive_settings

ROLE = sys.argv[1]
NAME = os.environ["FLOWHOOK_PROCESS_NAME"]
PLAN = Path(os.environ["CHILD_PLAN"])
PORTS = {"edge": "FLOWHOOK_HTTP_PORT", "admin": "FLOWHOOK_ADMIN_PORT", "router": "FLOWHOOK_GRPC_PORT"}


def requested(what):
    return (PLAN / f"{NAME}.{what}").exists()


def tell(what):
    with (PLAN / "events").open("a") as file:
        file.write(f"{what} {NAME}\n")


async def answer(reader, writer):
    line = await reader.readline()
    if ROLE == "admin" and (PLAN / "not-served").exists():
        writer.write(b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"reasons": ["no runner is ready"]}')
    elif ROLE == "edge" and b"/hook/" in line and (PLAN / "flows-unknown").exists():
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def serve(lifecycle):
    if requested("refuse"):
        raise InvalidError("another router owns this data directory")
    if requested("crash"):
        raise RuntimeError("a defect")
    if ROLE == "runner":
        tell(f"explained={os.environ['LOSSES_EXPLAINED']}")
    while requested("held"):
        with contextlib.suppress(FileNotFoundError):
            lifecycle.detail = (PLAN / f"{NAME}.held").read_text()
        await asyncio.sleep(0.02)
    port = int(os.environ.get(PORTS.get(ROLE, ""), "0"))
    server = await asyncio.start_server(answer, "127.0.0.1", port, reuse_port=True)
    lifecycle.announce("grpc" if ROLE == "router" else "http", "127.0.0.1", server.sockets[0].getsockname()[1])
    tell("started")
    lifecycle.ready.set()
    await lifecycle.stop.wait()
    if requested("stubborn"):
        await asyncio.Event().wait()
    tell("drained")
    server.close()


if __name__ == "__main__":
    if requested("usage"):
        sys.exit(2)
    if not receive_settings():
        sys.exit(1)
    sys.exit(run(serve, CommonSettings(log_level="error"), ROLE))
