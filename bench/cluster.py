"""Runs a local cluster, or the bare handler, as processes on free ports with a temporary data directory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowhook.client import AsyncClient

READY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    Attributes:
        http: URL of the edge.
        admin: URL of the admin process.
        grpc: `host:port` of the router.
        client: an operator's client.
        data_dir: of its router.
        supervisor: the process of `flowhook up`.
        output: lines printed so far, with the logs of its processes.
    """

    http: str
    admin: str
    grpc: str
    client: AsyncClient
    data_dir: Path
    supervisor: asyncio.subprocess.Process
    output: list[str]

    def token(self, role: str) -> str:
        """Return the token of a role."""
        return (self.data_dir / f"{role}.token").read_text().strip()

    def pid(self, process: str) -> int:
        """Return the process ID of, for example, `runner-1`."""
        return int((self.data_dir / "run" / f"{process}.pid").read_text())


@asynccontextmanager
async def running_cluster(
    *options: str, data_dir: Path | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Cluster]:
    """Run `flowhook up` with `options` until the block is left.

    Args:
        options: of `flowhook up`.
        data_dir: a temporary directory by default.
        environment: variables besides those of this process.

    Raises:
        RuntimeError: it did not get ready; the message has its output.
    """
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        data_dir = data_dir or Path(folder, "data")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir),
            "--http-port", "0", "--grpc-port", "0", "--admin-port", "0", *options,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        output: list[str] = []
        ready = asyncio.Event()
        reading = asyncio.create_task(_read(process, output, ready))
        try:
            await _until_ready(reading, ready, output)
            ports = json.loads((data_dir / "run" / "cluster.json").read_text())
            token = (data_dir / "admin.token").read_text().strip()
            async with AsyncClient(ports["grpc_address"], token=token) as client:
                yield Cluster(
                    ports["http_url"], ports["admin_url"], ports["grpc_address"], client, data_dir, process, output
                )
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await reading


@asynccontextmanager
async def bare_handler() -> AsyncIterator[str]:
    """Run the bare handler and yield its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    port = int(await process.stdout.readline())
    yield f"http://127.0.0.1:{port}"
    await process.communicate(b"")


async def _read(process: asyncio.subprocess.Process, output: list[str], ready: asyncio.Event) -> None:
    """Store the cluster's output, so that it never blocks on a full pipe."""
    async for line in process.stdout or ():
        output.append(line.decode(errors="replace"))
        if line.startswith(b"flowhook ready"):
            ready.set()


async def _until_ready(reading: asyncio.Task[None], ready: asyncio.Event, output: list[str]) -> None:
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({reading, waiting}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        raise RuntimeError("the cluster did not get ready:\n" + "".join(output))
