"""A local cluster that is broken on purpose: its processes, and the supervisor that starts them again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from flowhook import limits
from flowhook.client import AsyncClient
from harness.cluster import ClusterProcess, Ports, start_cluster

STOP_SECONDS: Final = 120.0
HTTP_TIMEOUT_SECONDS: Final = 15
"""Time that a call may take: short, so that those are tried again that the service leaves unanswered."""

EDGES: Final = ("edge-1", "edge-2")
RUNNERS: Final = ("runner-1", "runner-2")


@dataclass(slots=True)
class Findings:
    """What was found in the storage: problems by kind, and figures by name."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class BrokenCluster:
    """`flowhook up` on a data directory, with the same ports each time that it is started.

    Attributes:
        routers: names of the routers.
        processes: names of all processes that `flowhook up` starts.
        http_url: URL of the edges.
        data_dir: data directory.
        inline_bytes: size of the largest body that is stored with its event.

    Args:
        data_dir: data directory.
        environment: further variables of the processes.
    """

    routers: Sequence[str] = ("router-1",)
    inline_bytes = limits.INLINE_BODY_BYTES

    def __init__(self, data_dir: Path, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {"FLOWHOOK_HTTP_TIMEOUT": str(HTTP_TIMEOUT_SECONDS), **(environment or {})}
        self.processes = (*self.routers, *EDGES, *RUNNERS, "admin-1")
        self.http_url = ""
        self.data_dir = data_dir
        self._ports = Ports()
        self._started: ClusterProcess | None = None
        self._log = data_dir.parent / "cluster.log"

    async def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: it does not get ready; the message holds the end of its log.
        """
        self._started = await start_cluster(
            "--edges", str(len(EDGES)), "--runners", str(len(RUNNERS)), "--allow-private-addresses",
            *self._options(), data_dir=self.data_dir, ports=self._ports, log=self._log, environment=self._environment,
        )  # fmt: skip
        self._ports, self.http_url = self._started.ports, self._started.http

    async def stop(self) -> int:
        """Drain it and return the exit code of its supervisor; -1: it was not started."""
        if self._started is None:
            return -1
        async with asyncio.timeout(STOP_SECONDS):
            return await self._started.stop()

    async def kill(self) -> None:
        """Kill the supervisor and all that it started, at once, as a power loss does."""
        if self._started is not None:
            await self._started.kill()

    async def owner(self) -> str:
        """Return the name of the router that owns the data now; empty: not known."""
        return self.routers[0]

    async def examine(self) -> Findings:
        """Examine what is stored, after `stop`."""
        return Findings()

    async def close(self) -> None:
        """End all that is left of it."""
        await self.kill()

    def _options(self) -> Sequence[str]:
        return ()

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
            return None if self._started is None else self._started.pid(process)
        except (OSError, ValueError):
            return None

    def client(self) -> AbstractAsyncContextManager[AsyncClient]:
        """Connect as an operator to the cluster, which was started."""
        if self._started is None:
            raise RuntimeError("the cluster was not started")
        return self._started.connect()
