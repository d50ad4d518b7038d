"""Starts a local cluster with `flowhook up`, and waits until it serves."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from flowhook.client import AsyncClient

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 120.0
KILL_SECONDS: Final = 30.0
CALL_SECONDS: Final = 60.0
"""Time that a call may take: a campaign or a test may leave the cluster little of the machine."""
READY: Final = b"flowhook ready"


class Ports(NamedTuple):
    """Ports of a cluster; 0: a free one."""

    http: int = 0
    admin: int = 0
    grpc: int = 0


@dataclass(frozen=True, slots=True)
class ClusterProcess:
    """A started cluster.

    Attributes:
        http: URL of the edge.
        admin: URL of the admin process.
        grpc: `host:port` of the router, or of routers, separated by commas.
        ports: those it listens on, with which it may be started again.
        data_dir: of its router.
        supervisor: the process of `flowhook up`.
        output: lines printed so far, with the logs of its processes.
        reading: appends to `output` until the end of the cluster.
    """

    http: str
    admin: str
    grpc: str
    ports: Ports
    data_dir: Path
    supervisor: asyncio.subprocess.Process
    output: list[str]
    reading: asyncio.Task[None]

    def token(self, role: str) -> str:
        """Return the token of a role."""
        return (self.data_dir / f"{role}.token").read_text().strip()

    def pid(self, process: str) -> int:
        """Return the process ID of, for example, `runner-1`.

        Raises:
            FileNotFoundError: it does not run now.
        """
        return int((self.data_dir / "run" / f"{process}.pid").read_text())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncClient]:
        """Connect as an operator."""
        async with AsyncClient(self.grpc, token=self.token("admin"), timeout=CALL_SECONDS) as client:
            yield client

    async def stop(self) -> int:
        """Drain it, unless it has ended, and return the exit code of its supervisor."""
        if self.supervisor.returncode is None:
            self.supervisor.terminate()
        code = await self.supervisor.wait()
        await self.reading
        return code

    async def kill(self) -> None:
        """Kill the supervisor and all that it started, at once, as a power loss does."""
        await _kill(self.supervisor)
        await self.reading


@dataclass(frozen=True, slots=True)
class Cluster(ClusterProcess):
    """A started cluster with an operator's client."""

    client: AsyncClient


async def start_cluster(
    *options: str,
    data_dir: Path,
    ports: Ports = Ports(),  # noqa: B008 - immutable
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    python: str = sys.executable,
) -> ClusterProcess:
    """Run `flowhook up` with `options`, and wait until it is ready. The caller ends it by `stop` or `kill`.

    Args:
        options: of `flowhook up`.
        data_dir: data directory; created when missing.
        ports: to listen on.
        environment: variables besides those of this process.
        log: a file to which its output is appended, too.
        python: interpreter to run it with.

    Raises:
        RuntimeError: it did not get ready, and was killed; the message has the end of its output.
    """
    process = await asyncio.create_subprocess_exec(
        python, "-P", "-m", "cli", "up", "--data-dir", str(data_dir),
        "--http-port", str(ports.http), "--admin-port", str(ports.admin), "--grpc-port", str(ports.grpc), *options,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
        start_new_session=True,
    )  # fmt: skip
    output: list[str] = []
    ready = asyncio.Event()
    reading = asyncio.create_task(_read(process, output, ready, log), name="read what the cluster prints")
    try:
        await _until_ready(reading, ready, output)
        where = json.loads((data_dir / "run" / "cluster.json").read_text())
    except BaseException:
        await _kill(process)
        raise
    bound = Ports(where["http_port"], where["admin_port"], where["grpc_port"])
    return ClusterProcess(
        where["http_url"], where["admin_url"], where["grpc_address"], bound, data_dir, process, output, reading
    )


@asynccontextmanager
async def running_cluster(
    *options: str,
    data_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> AsyncIterator[Cluster]:
    """Run `flowhook up` with `options` on free ports until the block is left.

    Args:
        options: of `flowhook up`.
        data_dir: a temporary directory by default.
        environment: variables besides those of this process.
        python: interpreter to run it with.

    Raises:
        RuntimeError: it did not get ready; the message has the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="flowhook-") as folder:
        started = await start_cluster(
            *options, data_dir=data_dir or Path(folder, "data"), environment=environment, python=python
        )
        try:
            async with started.connect() as client:
                yield Cluster(**{each.name: getattr(started, each.name) for each in fields(started)}, client=client)
        finally:
            await started.stop()


async def _read(process: asyncio.subprocess.Process, output: list[str], ready: asyncio.Event, log: Path | None) -> None:
    """Store the cluster's output, so that it never blocks on a full pipe."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    with nullcontext() if log is None else log.open("ab", buffering=0) as file:
        async for line in process.stdout:
            output.append(line.decode(errors="replace"))
            if file is not None:
                file.write(line)
            if line.startswith(READY):
                ready.set()


async def _until_ready(reading: asyncio.Task[None], ready: asyncio.Event, output: list[str]) -> None:
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({reading, waiting}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        raise RuntimeError("the cluster did not get ready:\n" + "".join(output)[-4000:])


async def _kill(supervisor: asyncio.subprocess.Process) -> None:
    if supervisor.returncode is not None:
        return
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):  # it has ended, although its exit code was not read yet
        family = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.kill()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await supervisor.wait()
    await asyncio.to_thread(psutil.wait_procs, family, KILL_SECONDS)
