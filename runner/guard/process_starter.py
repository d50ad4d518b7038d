"""Starts child processes: forks them from a server process with all modules imported, or starts new interpreters."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from flowhook.sandbox.fork_server import fork_server
from flowhook.sandbox.forking import (
    ForkedProcess,
    ForkingClient,
    ServerProcess,
    spawn_fork_server,
    supports_fork_server,
)
from flowhook.sandbox.spawning import SpawnedProcess, python_command, spawn

# Environment variables that a child needs to start, and clears afterwards: the locations of CA certificates, and how
# gRPC waits for sockets.
_PASSED_ON: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GRPC_EXPERIMENTS")
# read by gRPC on import: forks of a child exec at once, so gRPC needs no fork handlers
_SETTINGS: Final = {"GRPC_ENABLE_FORK_SUPPORT": "false"}


class ProcessStarter(ABC):
    """Starts processes for children."""

    @abstractmethod
    async def start(self, control_fd: int, record_fd: int) -> SpawnedProcess | ForkedProcess:
        """Start a process with the descriptors of its control socket and record, which the caller still owns.

        Raises:
            OSError: the process can't be started.
        """

    async def close(self) -> None:  # noqa: B027 - not all have resources
        """Release all resources; processes that still run may be killed."""


def new_starter(serve: Callable[[int], None] | None = None) -> ProcessStarter:
    """Return a starter for this system; for `serve` see `ForkServerStarter`."""
    return ForkServerStarter(serve) if supports_fork_server() else InterpreterStarter()


class InterpreterStarter(ProcessStarter):
    """Starts a new interpreter for each process; works on every system, takes about a second of CPU time."""

    @override
    async def start(self, control_fd: int, record_fd: int) -> SpawnedProcess:
        descriptors = (control_fd, record_fd)
        command = python_command("runner.worker.process", *descriptors)
        return spawn(command, descriptors=descriptors, environment=_environment())


def _environment() -> dict[str, str]:
    """Return a nearly empty environment, since expressions can read it through jq."""
    return _SETTINGS | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


class ForkServerStarter(ProcessStarter):
    """Has processes forked by `worker.fork_server`, which starts at once, since its imports take about a second."""

    def __init__(self, serve: Callable[[int], None] | None = None) -> None:
        """`serve`: the fork server's function. Then the first server is a fork of this process.

        That must have one thread, and all that the server needs.
        """
        self._serve = serve
        self._client = ForkingClient(self._launch)

    def _launch(self, descriptor: int) -> ServerProcess:
        serve, self._serve = self._serve, None
        if serve is None:
            return spawn_fork_server(descriptor, "runner.worker.fork_server", environment=_environment())
        return fork_server(descriptor, serve)

    @override
    async def start(self, control_fd: int, record_fd: int) -> ForkedProcess:
        return await self._client.fork("", control_fd, record_fd)

    @override
    async def close(self) -> None:
        await self._client.close()
