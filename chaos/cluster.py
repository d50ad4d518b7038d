"""A local cluster that is broken on purpose: its processes, and the supervisor that starts them again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from flowhook.client import AsyncClient

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 120.0

EDGES: Final = ("edge-1", "edge-2")
RUNNERS: Final = ("runner-1", "runner-2")
PROCESSES: Final = ("router-1", *EDGES, *RUNNERS, "admin-1")


class BrokenCluster:
    """`flowhook up` on a data directory, with the same ports each time that it is started."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.http_url = ""
        self.grpc_address = ""
        self._ports = ["0", "0", "0"]
        self._supervisor: asyncio.subprocess.Process | None = None
        self._log = data_dir.parent / "cluster.log"

    async def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: it does not get ready; the message holds the end of its log.
        """
        http, admin, grpc = self._ports
        with self._log.open("ab") as log:
            self._supervisor = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "cli", "up", "--data-dir", str(self.data_dir),
                "--edges", str(len(EDGES)), "--runners", str(len(RUNNERS)), "--allow-private-addresses",
                "--http-port", http, "--admin-port", admin, "--grpc-port", grpc,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self._supervisor.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            async with asyncio.timeout(READY_SECONDS):
                while (line := await self._supervisor.stdout.readline()) != b"flowhook ready\n":
                    if not line:
                        raise RuntimeError(f"the cluster did not get ready:\n{self._log.read_text()[-4000:]}")
        except TimeoutError:
            raise RuntimeError(f"the cluster is not ready after {READY_SECONDS:g} s") from None
        where = json.loads((self.data_dir / "run" / "cluster.json").read_text())
        self._ports = [str(where[f"{name}_port"]) for name in ("http", "admin", "grpc")]
        self.http_url, self.grpc_address = where["http_url"], where["grpc_address"]
        self._reading = asyncio.create_task(self._supervisor.stdout.read(), name="read what the supervisor prints")

    async def stop(self) -> int:
        """Drain it and return the exit code of its supervisor."""
        if self._supervisor is None or self._supervisor.returncode is not None:
            return -1
        self._supervisor.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            return await self._supervisor.wait()

    async def kill(self) -> None:
        """Kill the supervisor and all that it started, at once, as a power loss does."""
        if self._supervisor is None or self._supervisor.returncode is not None:
            return
        family = [*psutil.Process(self._supervisor.pid).children(recursive=True)]
        self._supervisor.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self._supervisor.wait()
        await asyncio.to_thread(psutil.wait_procs, family, 30)

    def signal(self, process: str, number: signal.Signals) -> bool:
        """Send a signal to a process, and to its children if it is a stop; false: it does not run now."""
        pid = self.pid(process)
        if pid is None:
            return False
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if number in (signal.SIGSTOP, signal.SIGCONT):
                for child in psutil.Process(pid).children(recursive=True):
                    child.send_signal(number)
            os.kill(pid, number)
            return True
        return False

    def kill_children(self, process: str) -> bool:
        """Kill the children of a process, which is a runner; false: it has none now."""
        pid = self.pid(process)
        children: Sequence[psutil.Process] = ()
        with suppress(psutil.NoSuchProcess):
            children = () if pid is None else psutil.Process(pid).children()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return bool(children)

    def pid(self, process: str) -> int | None:
        """Return the process ID of, for example, `runner-1`; None: it does not run now."""
        try:
            return int((self.data_dir / "run" / f"{process}.pid").read_text())
        except (OSError, ValueError):
            return None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        """Connect as an operator."""
        token = (self.data_dir / "admin.token").read_text().strip()
        async with AsyncClient(self.grpc_address, token=token) as client:
            yield client
