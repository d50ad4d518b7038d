"""A local cluster, run in this process: the order in which its processes start, its readiness, and its drain."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shlex
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import orjson

from cli.supervisor.cluster_spec import DEFAULT_GRPC_PORT, DRAIN_ORDER, LOOPBACK, ClusterSpec, ForeignProgram
from cli.supervisor.http_probe import probe
from cli.supervisor.initial_flows import apply_flows
from cli.supervisor.process_supervisor import ProcessSupervisor, describe_waiting
from cli.supervisor.progress import print_progress, report_waiting
from cli.supervisor.rundir import DEV_DATA_DIR, ClusterAddresses, RunDir
from flowhook.errors import FlowhookError, InternalError
from flowhook.retrying import POLL
from flowhook.sandbox.forking import ForkingClient, spawn_fork_server, supports_fork_server

# time that a process may take to stop before it is killed, in addition to its drain, which it limits itself. This is
# for a process that hangs: half of it remains on a machine that gives a process a tenth of a core for half a minute.
STOP_SECONDS: Final = 60.0
OK: Final = 200
NOT_FOUND: Final = 404


class FlowSource(Protocol):
    """What applies the flows at the start."""

    @property
    def webhooks(self) -> Sequence[str]:
        """IDs of the flows that have a webhook, once `apply` has returned."""

    async def apply(self, routers: asyncio.Future[str]) -> None:
        """Apply the flows, when the addresses of the routers are known; edges and runners wait for it."""


@dataclass(eq=False, repr=False, slots=True, kw_only=True)
class LocalCluster:
    """A local cluster, from its start to the end of its drain."""

    spec: ClusterSpec
    run_dir: RunDir  # owned by the caller
    flows: FlowSource
    # called once requests are served, with the code of the link that logs in once
    on_ready: Callable[[ClusterAddresses, str], None]
    log_servers: Sequence[ForeignProgram] = ()  # servers of the replicated log, which routers wait for
    forks: ForkingClient | None = None  # forks the processes, where the system can; owned by the caller
    _login_code: str = field(init=False, default_factory=partial(secrets.token_urlsafe, 32))
    _supervisors: list[ProcessSupervisor] = field(init=False, default_factory=list)
    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _served: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _step: str = field(init=False, default="")
    _forced: signal.Signals | None = field(init=False, default=None)

    async def run(self) -> int:
        """Start everything, run it until a signal is received, drain, and return the exit code.

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
            raise first_error(failures) from None
        return 0 if self._forced is None else 128 + self._forced

    async def _start(self, group: asyncio.TaskGroup) -> None:
        """Start everything at once, because imports take long; release each process when its dependencies serve."""
        servers = self._launch(group, map(self._supervise_program, self.log_servers))
        routers, edges, runners, admin = (
            self._launch(group, [self._supervise(role, name) for name in self.spec.names(role)])
            for role in ("router", "edge", "runner", "admin")
        )
        async with asyncio.TaskGroup() as steps:
            reminding = steps.create_task(report_waiting(self._what_is_missing), name="remind")
            addresses: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            applying = steps.create_task(self.flows.apply(addresses), name="apply flows")
            await _serve(servers)
            await _serve(routers)
            self._served.set()
            addresses.set_result(self._router_addresses())
            _let_go(admin)
            self._step = "the router to take the flows"
            await applying
            self._step = ""
            if self.spec.http_port == 0:
                await _serve(edges[:1])  # the other edges share its port, and runners build URLs with it
            _let_go(edges + runners)
            await _serve(edges + runners + admin)
            await self._until_served()
            reminding.cancel()
        cluster = self._describe()
        self.run_dir.write_cluster(cluster)
        self.on_ready(cluster, self._login_code)
        self._login_code = ""  # an admin process that is started again must not accept it a second time

    def _launch(self, group: asyncio.TaskGroup, supervisors: Iterable[ProcessSupervisor]) -> list[ProcessSupervisor]:
        launched = list(supervisors)
        self._supervisors += launched
        for supervisor in launched:
            group.create_task(supervisor.run(), name=supervisor.name)
        return launched

    def _supervise_program(self, program: ForeignProgram) -> ProcessSupervisor:
        return ProcessSupervisor(
            program.name, program.role, program.command, lambda _: {}, self._served, self.run_dir, program
        )

    def _supervise(self, role: str, name: str) -> ProcessSupervisor:
        def settings(losses_explained: bool) -> Mapping[str, str]:  # noqa: FBT001 - its only argument
            return self.spec.settings(
                role,
                name,
                http_port=_port_of(self._known("edge", "http")) or self.spec.http_port,
                admin_port=_port_of(self._known("admin", "http")) or self.spec.admin_port,
                grpc_ports=self._grpc_ports(),
                losses_explained=losses_explained,
                login_code=self._login_code if role == "admin" else "",
            )

        command = self.spec.command(role, name)
        return ProcessSupervisor(name, role, command, settings, self._served, self.run_dir, forks=self.forks)

    async def _until_served(self) -> None:
        """Wait until the admin process reports every role as ready, and an edge knows the flows."""
        admin = self._address("admin", "http", self.spec.admin_port)
        edge = self._address("edge", "http", self.spec.http_port)
        waits = POLL.pauses()
        while (answer := await probe("GET", admin, "/readyz"))[0] != OK:
            self._step = f"admin-1, {_reasons(*answer)}"
            await asyncio.sleep(next(waits))
        # without a flow that has a webhook, 404 also counts as served
        path, good = (
            ("/hook/-", {OK, NOT_FOUND}) if not self.flows.webhooks else (f"/hook/{self.flows.webhooks[0]}", {OK})
        )
        tls, proxied = self.spec.tls_cert_file is not None, self.spec.proxy_protocol
        waits = POLL.pauses()
        while (answer := await probe("HEAD", edge, path, tls=tls, proxied=proxied))[0] not in good:
            self._step = f"edge-1, which {f'answers {answer[0]} for' if answer[0] else 'does not answer'} {path}"
            await asyncio.sleep(next(waits))

    def _what_is_missing(self) -> str:
        starting = (each for each in self._supervisors if each.may_proceed.is_set() and not each.ready.is_set())
        return describe_waiting(starting) or self._step

    async def _drain(self) -> None:
        for role in DRAIN_ORDER:
            if supervisors := self._of_role(role):
                print_progress(f"stopping {', '.join(each.name for each in supervisors)}")
                grace = self.spec.drain_seconds + STOP_SECONDS
                await asyncio.gather(*(each.stop(grace) for each in supervisors))

    def _of_role(self, role: str) -> list[ProcessSupervisor]:
        return [supervisor for supervisor in self._supervisors if supervisor.role == role]

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            print_progress("draining; once more to stop at once")
            self._stop.set()
            return
        self._forced = number
        for supervisor in self._supervisors:
            supervisor.kill()

    def _known(self, role: str, kind: str) -> str:
        return next((each.addresses[kind] for each in self._of_role(role) if kind in each.addresses), "")

    def _address(self, role: str, kind: str, port: int) -> str:
        if address := self._known(role, kind):
            return address
        if port == 0:
            raise InternalError(f"{role}-1 did not report where it listens")
        return f"{LOOPBACK}:{port}"

    def _grpc_ports(self) -> list[int]:
        """Return the ports of the routers, in order of their numbers; 0 where the system has yet to choose."""
        configured = itertools.chain([self.spec.grpc_port], itertools.repeat(0))
        routers = zip(self._of_role("router"), configured, strict=False)
        return [_port_of(router.addresses.get("grpc", "")) or port for router, port in routers]

    def _router_addresses(self) -> str:
        ports = self._grpc_ports()
        if 0 in ports:
            raise InternalError("a router did not report where it listens")
        return ",".join(f"{LOOPBACK}:{port}" for port in ports)

    def _describe(self) -> ClusterAddresses:
        http = self._address("edge", "http", self.spec.http_port)
        admin = self._address("admin", "http", self.spec.admin_port)
        certificate = self.spec.tls_cert_file
        return ClusterAddresses(
            pid=os.getpid(),
            http_url=f"{'http' if certificate is None else 'https'}://{_reachable(http)}",
            admin_url=f"http://{_reachable(admin)}",
            grpc_address=self._router_addresses(),
            http_port=_port_of(http),
            admin_port=_port_of(admin),
            grpc_port=self._grpc_ports()[0],
            http_cert_file="" if certificate is None else certificate,
            public_url=self.spec.public_url,
            storage=self.spec.storage_url,
        )


def _let_go(supervisors: Sequence[ProcessSupervisor]) -> None:
    for supervisor in supervisors:
        supervisor.may_proceed.set()


async def _serve(supervisors: Sequence[ProcessSupervisor]) -> None:
    _let_go(supervisors)
    for supervisor in supervisors:
        await supervisor.ready.wait()


def _reasons(status: int, body: bytes) -> str:
    try:
        return f"which says: {'; '.join(orjson.loads(body)['reasons'])}"
    except (ValueError, KeyError, TypeError):
        return f"which answers {status} for /readyz" if status else "which does not answer"


def first_error(failures: ExceptionGroup) -> Exception:
    """Return the first error of a group of which all are known, and are about the same; else the group."""
    known, unknown = failures.split(FlowhookError)
    return failures if unknown is not None or known is None else _first(known)


def _first(error: FlowhookError | BaseExceptionGroup[FlowhookError]) -> FlowhookError:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


def _reachable(address: str) -> str:
    """Return an address that this machine can connect to: the loopback address in place of a wildcard."""
    host, _, port = address.rpartition(":")
    return f"{LOOPBACK}:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104 - compared, not bound


# variables that programs and libraries read when they start or are imported; processes get all others later
PASSED_ON: Final = ("GRPC_", "SSL_CERT_", "OPENSSL_CONF", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LANG", "LC_", "TZ")


@dataclass(slots=True)
class FlowsOfSpec:
    """The flows that the specification names, applied by a process of its own."""

    spec: ClusterSpec
    webhooks: list[str] = field(init=False, default_factory=list)

    async def apply(self, routers: asyncio.Future[str]) -> None:
        async def settings() -> Mapping[str, str]:
            addresses = (await asyncio.shield(routers)).split(",")
            ports = [int(address.rpartition(":")[2]) for address in addresses]
            return self.spec.settings("", "", http_port=0, admin_port=0, grpc_ports=ports)

        self.webhooks += await apply_flows(self.spec.apply_command(), settings)


async def run_cluster(
    spec: ClusterSpec,
    run_dir: RunDir,
    flows: FlowSource,
    on_ready: Callable[[ClusterAddresses, str], None] = lambda *_: None,
) -> int:
    """Run the cluster until a signal is received, and return the exit code.

    `on_ready` is called once requests are served and the addresses are printed, with the code that logs in once.
    """

    def ready(addresses: ClusterAddresses, login_code: str) -> None:
        _print_ready(spec, addresses, flows.webhooks, login_code)
        on_ready(addresses, login_code)

    programs: Sequence[ForeignProgram] = ()
    async with AsyncExitStack() as stack:
        if spec.starts_nats:
            from cli.supervisor.nats_servers import NatsServers

            servers = stack.enter_context(closing(NatsServers.prepare(Path(spec.data_dir))))
            programs = servers.programs(spec.environment())
            spec = replace(spec, storage=servers.storage(spec.storage.partition("?")[2]))
        forks = _fork_server(spec) if supports_fork_server() else None
        if forks is not None:
            stack.push_async_callback(forks.close)
        cluster = LocalCluster(
            spec=spec, run_dir=run_dir, flows=flows, on_ready=ready, log_servers=programs, forks=forks
        )
        return await cluster.run()


def _fork_server(spec: ClusterSpec) -> ForkingClient:
    """Start what forks the processes; its environment, which workers of runners inherit, has no secrets."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    modules = ("router.process.replicated_app",) if spec.replicated else ()
    return ForkingClient(
        lambda descriptor: spawn_fork_server(
            descriptor, "cli.fork_server", *modules, environment=environment, new_session=True
        )
    )


def _print_ready(spec: ClusterSpec, addresses: ClusterAddresses, webhooks: Sequence[str], login_code: str) -> None:
    url = addresses.public_url or addresses.http_url
    for flow_id in webhooks:
        print_progress(f"webhook  {url}/hook/{flow_id}")
    print_progress(f"http     {addresses.http_url}")
    print_progress(f"admin    {addresses.admin_url}")
    print_progress(f"grpc     {addresses.grpc_address}")
    print_progress(f"console  {addresses.admin_url}/login#{login_code} (logs in once, within an hour)")
    print_progress(f"list     {_command(spec, addresses)}")
    print_progress("flowhook ready")


def _command(spec: ClusterSpec, addresses: ClusterAddresses) -> str:
    """Return the command that lists executions, as it can be copied to another terminal in this directory."""
    words = [spec.program, "executions", "list"]
    if Path(spec.data_dir) == DEV_DATA_DIR.absolute():
        return shlex.join(words)
    if addresses.grpc_address != f"{LOOPBACK}:{DEFAULT_GRPC_PORT}":
        words += ["--router", addresses.grpc_address]
    if Path(spec.data_dir) != Path("data").absolute():
        words += ["--data-dir", spec.data_dir]
    return shlex.join(words)
