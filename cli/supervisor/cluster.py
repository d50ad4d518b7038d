"""The order of things: what starts after what, when the cluster is ready, and how it drains."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from cli.supervisor.command import Command
from cli.supervisor.http import status_of
from cli.supervisor.keeper import Keeper
from cli.supervisor.plan import DRAIN_ORDER
from cli.supervisor.rundir import ClusterFile, RunDir
from flowhook.errors import FlowhookError, InternalError, UnavailableError

START_SECONDS: Final = 60.0
"""How long the whole start may take."""

DRAIN_SECONDS: Final = 15.0
"""How long a process may drain before it is killed; its own limit is shorter."""

POLL_SECONDS: Final = 0.05


class Plan(Protocol):
    """What the cluster consists of; see `plan.UpSettings`."""

    @property
    def host(self) -> str:
        """Address that senders reach."""
        ...

    @property
    def http_port(self) -> int:
        """Port that senders reach."""
        ...

    @property
    def admin_port(self) -> int:
        """Port that operators reach."""
        ...

    @property
    def grpc_port(self) -> int:
        """Port of the router."""
        ...

    @property
    def tls_cert_file(self) -> Path | None:
        """Certificate that senders see; None: edges speak no TLS."""
        ...

    @property
    def proxy_protocol(self) -> bool:
        """Whether connections to edges begin with a header of the PROXY protocol."""
        ...

    def names(self, role: str) -> list[str]:
        """Return the names of the processes of a role."""
        ...

    def command(self, role: str, name: str, *, http_port: int, admin_port: int, grpc_port: int) -> Command:
        """Return how to start one process."""
        ...


class Cluster:
    """A local cluster, from its start to the end of its drain."""

    def __init__(
        self,
        plan: Plan,
        run_dir: RunDir,
        *,
        say: Callable[[str], None],
        on_router: Callable[[str], Awaitable[None]],
        on_ready: Callable[[ClusterFile], None],
        probe_path: Callable[[], str],
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            plan: what to start.
            run_dir: held by the caller.
            say: prints one line of progress.
            on_router: called with the router's address once it serves, before anything else is started.
            on_ready: called once requests are served.
            probe_path: path whose HEAD an edge answers with 200 once the cluster serves; empty: any answer will do.
        """
        self._plan = plan
        self._run_dir = run_dir
        self._say = say
        self._on_router = on_router
        self._on_ready = on_ready
        self._probe_path = probe_path
        self._keepers: list[Keeper] = []
        self._stop = asyncio.Event()
        self._forced: signal.Signals | None = None

    async def run(self) -> int:
        """Start everything, keep it running until a signal comes, drain, and return the exit code.

        Raises:
            FlowhookError: the cluster could not be started; nothing is left running.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with asyncio.TaskGroup() as group:
                starter = group.create_task(self._start(group), name="start")
                await self._stop.wait()
                starter.cancel()
                await self._drain()
        except ExceptionGroup as failures:
            known, unknown = failures.split(FlowhookError)
            if unknown is not None or known is None:
                raise
            raise _first(known) from None
        return 0 if self._forced is None else 128 + self._forced

    async def _start(self, group: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._launch(group, "router")
                await self._on_router(self._address("router", "grpc", self._plan.grpc_port))
                await self._launch(group, "edge")  # before the runners, which give out URLs with its port
                await self._launch(group, "runner")
                await self._launch(group, "admin")
                await self._until_served()
        except TimeoutError:
            waiting = [keeper.name for keeper in self._keepers if not keeper.ready.is_set()]
            missing = ", ".join(waiting) or "the cluster"
            raise UnavailableError(f"{missing} was not ready within {START_SECONDS:g} s") from None
        cluster = self._describe()
        self._run_dir.write_cluster(cluster)
        self._on_ready(cluster)

    async def _launch(self, group: asyncio.TaskGroup, role: str) -> None:
        """Start the processes of a role; the first alone when the others need to know the port it chose."""
        keepers = [self._keeper(role, name) for name in self._plan.names(role)]
        alone = 1 if role == "edge" and self._plan.http_port == 0 else len(keepers)
        for part in (keepers[:alone], keepers[alone:]):
            for keeper in part:
                self._keepers.append(keeper)
                group.create_task(keeper.run(), name=keeper.name)
            for keeper in part:
                await keeper.ready.wait()

    def _keeper(self, role: str, name: str) -> Keeper:
        def command() -> Command:
            return self._plan.command(
                role,
                name,
                http_port=_port_of(self._known("edge", "http")) or self._plan.http_port,
                admin_port=_port_of(self._known("admin", "http")) or self._plan.admin_port,
                grpc_port=_port_of(self._known("router", "grpc")) or self._plan.grpc_port,
            )

        return Keeper(name, role, command, run_dir=self._run_dir, say=self._say)

    async def _until_served(self) -> None:
        """Wait until the admin process finds every role ready, and an edge knows the flows."""
        admin = self._address("admin", "http", self._plan.admin_port)
        edge = self._address("edge", "http", self._plan.http_port)
        while await status_of("GET", admin, "/readyz") != 200:  # noqa: ASYNC110, PLR2004 - another process; HTTP OK
            await asyncio.sleep(POLL_SECONDS)
        path, good = self._probe_path() or "/hook/-", {200} if self._probe_path() else {200, 404}
        tls, proxied = self._plan.tls_cert_file is not None, self._plan.proxy_protocol
        while await status_of("HEAD", edge, path, tls=tls, proxied=proxied) not in good:  # noqa: ASYNC110 - as above
            await asyncio.sleep(POLL_SECONDS)

    async def _drain(self) -> None:
        for role in DRAIN_ORDER:
            keepers = [keeper for keeper in self._keepers if keeper.role == role]
            if not keepers:
                continue
            self._say(f"stopping {', '.join(keeper.name for keeper in keepers)}")
            await asyncio.gather(*(keeper.stop(DRAIN_SECONDS) for keeper in keepers))

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            self._say("draining; once more to stop at once")
            self._stop.set()
            return
        self._forced = number
        for keeper in self._keepers:
            keeper.kill()

    def _known(self, role: str, kind: str) -> str:
        return next(
            (keeper.addresses[kind] for keeper in self._keepers if keeper.role == role and kind in keeper.addresses), ""
        )

    def _address(self, role: str, kind: str, port: int) -> str:
        """Return where a role listens, as it said; a port that was asked for need not be said."""
        address = self._known(role, kind)
        if address:
            return address
        if port == 0:
            raise InternalError(f"{role}-1 did not say where it listens")
        return f"127.0.0.1:{port}"

    def _describe(self) -> ClusterFile:
        http = self._address("edge", "http", self._plan.http_port)
        admin = self._address("admin", "http", self._plan.admin_port)
        grpc = self._address("router", "grpc", self._plan.grpc_port)
        certificate = self._plan.tls_cert_file
        return ClusterFile(
            pid=os.getpid(),
            http_url=f"{'http' if certificate is None else 'https'}://{_reachable(http)}",
            admin_url=f"http://{_reachable(admin)}",
            grpc_address=_reachable(grpc),
            http_port=_port_of(http),
            admin_port=_port_of(admin),
            grpc_port=_port_of(grpc),
            http_cert_file="" if certificate is None else str(certificate.absolute()),
        )


def _first(group: BaseExceptionGroup[FlowhookError]) -> FlowhookError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FlowhookError)  # noqa: S101 - for the type checker; the group was split by it
    return error


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


def _reachable(address: str) -> str:
    """Return an address that this machine can connect to: one that means all of them is none."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104 - compared, not bound
