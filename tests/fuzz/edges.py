"""Runs more edges of a cluster: behind the PROXY protocol, with TLS, and one that fetches keys from our publisher."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from harness.cluster import READY_SECONDS, Cluster


@dataclass(frozen=True, slots=True)
class Edge:
    """A running edge.

    Attributes:
        name: one of the constants below.
        port: where it listens.
        process: None if it is the cluster's own edge.
    """

    name: str
    port: int
    process: asyncio.subprocess.Process | None = None


PLAIN: Final = "plain"
KEYED: Final = "keyed"
PROXIED: Final = "proxied"
TLS: Final = "tls"


@asynccontextmanager
async def running_edge(name: str, cluster: Cluster, environment: Mapping[str, str]) -> AsyncIterator[Edge]:
    """Run an edge with settings of its own; its output is appended to the cluster's.

    Raises:
        RuntimeError: it did not get ready; the message has the output.
    """
    own = {
        "FLOWHOOK_DATA_DIR": str(cluster.data_dir),
        "FLOWHOOK_ROUTER": cluster.grpc,
        "FLOWHOOK_HTTP_PORT": "0",
        "FLOWHOOK_LOG_FORMAT": "json",
        "FLOWHOOK_PROCESS_NAME": f"edge-{name}",
        "FLOWHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fuzz.edge_process", env={**os.environ, **own, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_read(process, cluster.output, port))
    try:
        async with asyncio.timeout(READY_SECONDS):
            bound = await port
        yield Edge(name, bound, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def _read(process: asyncio.subprocess.Process, output: list[str], port: asyncio.Future[int]) -> None:
    async for line in process.stdout or ():
        output.append(line.decode(errors="replace"))
        if not port.done() and b'"ready"' in line:
            port.set_result(int(json.loads(line)["http"].rpartition(":")[2]))
    if not port.done():
        port.set_exception(RuntimeError("an edge did not get ready:\n" + "".join(output[-20:])))
