"""A local cluster: the order in which its processes start, its readiness, and its drain."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from cli.supervisor.cluster_spec import DRAIN_ORDER
from cli.supervisor.command import Command, ForeignProgram
from cli.supervisor.http_probe import probe
from cli.supervisor.process_supervisor import ProcessSupervisor
from cli.supervisor.rundir import ClusterAddresses, RunDir
from cli.supervisor.wait_reports import report_waiting
from flowhook.errors import FlowhookError, InternalError
from flowhook.retrying import POLL

# time that a process may take to stop before it is killed, in addition to its drain, which it limits itself. This is
# for a process that hangs: half of it remains on a machine that gives a process a tenth of a core for half a minute.
STOP_SECONDS: Final = 60.0
OK: Final = 200
NOT_FOUND: Final = 404


class ClusterDefinition(Protocol):
    """The specification of a cluster; see `cluster_spec.ClusterSpec`."""

    @property
    def host(self) -> str:
        """Address for senders."""
        ...

    @property
    def http_port(self) -> int:
        """Port for senders."""
        ...

    @property
    def admin_port(self) -> int:
        """Port for operators."""
        ...

    @property
    def grpc_port(self) -> int:
        """Port of the first router."""
        ...

    @property
    def drain_seconds(self) -> float:
        """Maximum time in seconds for which a process may finish its work after a stop signal."""
        ...

    @property
    def tls_cert_file(self) -> str | None:
        """Certificate file of the edges; None: edges do not use TLS."""
        ...

    @property
    def proxy_protocol(self) -> bool:
        """Whether connections to edges begin with a PROXY protocol header."""
        ...

    def names(self, role: str) -> list[str]:
        """Return the names of the processes of a role."""
        ...

    def command(self, role: str, name: str) -> Command:
        """Return the command that starts one process, which then waits for its settings."""
        ...

    def settings(
        self,
        role: str,
        name: str,
        *,
        http_port: int,
        admin_port: int,
        grpc_ports: Sequence[int],
        losses_explained: bool,
        login_code: str,
    ) -> Mapping[str, str]:
        """Return the settings that a process waits for, with the ports known so far."""
        ...


class LocalCluster:
    """A local cluster, from its start to the end of its drain."""

    def __init__(
        self,
        spec: ClusterDefinition,
        run_dir: RunDir,
        *,
        print_line: Callable[[str], None],
        apply_flows: Callable[[asyncio.Future[str]], Coroutine[Any, Any, None]],
        on_ready: Callable[[ClusterAddresses, str], None],
        probe_path: Callable[[], str],
        log_servers: Sequence[ForeignProgram] = (),
    ) -> None:
        """Create a cluster; nothing is started yet.

        Args:
            spec: specification of the cluster.
            run_dir: run directory; owned by the caller.
            print_line: prints one line of progress.
            apply_flows: called at the start with a future of the routers' addresses, separated by commas; edges and
                runners wait until it returns.
            on_ready: called once requests are served, with the code of the link that logs in once.
            probe_path: returns a path for which HEAD gets 200 from an edge once the cluster serves; empty: 404 also
                counts as served.
            log_servers: servers of the replicated log, which routers wait for.
        """
        self._spec = spec
        self._run_dir = run_dir
        self._print = print_line
        self._apply_flows = apply_flows
        self._on_ready = on_ready
        self._login_code = secrets.token_urlsafe(32)
        self._probe_path = probe_path
        self._log_servers = log_servers
        self._supervisors: list[ProcessSupervisor] = []
        self._stop = asyncio.Event()
        self._served = asyncio.Event()
        self._step = ""
        self._forced: signal.Signals | None = None

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
            known, unknown = failures.split(FlowhookError)
            if unknown is not None or known is None:
                raise
            raise _first(known) from None
        return 0 if self._forced is None else 128 + self._forced

    async def _start(self, group: asyncio.TaskGroup) -> None:
        """Start everything at once, because imports take long; release each process when its dependencies serve."""
        servers = self._launch(group, map(self._supervise_program, self._log_servers))
        routers, edges, runners, admin = (
            self._launch(group, [self._supervise(role, name) for name in self._spec.names(role)])
            for role in ("router", "edge", "runner", "admin")
        )
        async with asyncio.TaskGroup() as steps:
            reminding = steps.create_task(report_waiting(self._what_is_missing, self._print), name="remind")
            addresses: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            applying = steps.create_task(self._apply_flows(addresses), name="apply flows")
            await _serve(servers)
            await _serve(routers)
            self._served.set()
            addresses.set_result(self._router_addresses())
            _let_go(admin)
            self._step = "the router to take the flows"
            await applying
            self._step = ""
            if self._spec.http_port == 0:
                await _serve(edges[:1])  # the other edges share its port, and runners build URLs with it
            _let_go(edges + runners)
            await _serve(edges + runners + admin)
            await self._until_served()
            reminding.cancel()
        cluster = self._describe()
        self._run_dir.write_cluster(cluster)
        self._on_ready(cluster, self._login_code)
        self._login_code = ""  # an admin process that is started again must not accept it a second time

    def _launch(self, group: asyncio.TaskGroup, supervisors: Iterable[ProcessSupervisor]) -> list[ProcessSupervisor]:
        launched = list(supervisors)
        for supervisor in launched:
            self._supervisors.append(supervisor)
            group.create_task(supervisor.run(), name=supervisor.name)
        return launched

    def _supervise_program(self, program: ForeignProgram) -> ProcessSupervisor:
        return ProcessSupervisor(
            program.name,
            program.role,
            program.command,
            lambda _: {},
            served=self._served,
            run_dir=self._run_dir,
            print_line=self._print,
            program=program,
        )

    def _supervise(self, role: str, name: str) -> ProcessSupervisor:
        def settings(losses_explained: bool) -> Mapping[str, str]:  # noqa: FBT001 - its only argument
            return self._spec.settings(
                role,
                name,
                http_port=_port_of(self._known("edge", "http")) or self._spec.http_port,
                admin_port=_port_of(self._known("admin", "http")) or self._spec.admin_port,
                grpc_ports=self._grpc_ports(),
                losses_explained=losses_explained,
                login_code=self._login_code if role == "admin" else "",
            )

        return ProcessSupervisor(
            name,
            role,
            self._spec.command(role, name),
            settings,
            served=self._served,
            run_dir=self._run_dir,
            print_line=self._print,
        )

    async def _until_served(self) -> None:
        """Wait until the admin process reports every role as ready, and an edge knows the flows."""
        admin = self._address("admin", "http", self._spec.admin_port)
        edge = self._address("edge", "http", self._spec.http_port)
        waits = POLL.pauses()
        while (answer := await probe("GET", admin, "/readyz"))[0] != OK:
            self._step = f"admin-1, {_reasons(*answer)}"
            await asyncio.sleep(next(waits))
        path, good = self._probe_path() or "/hook/-", {OK} if self._probe_path() else {OK, NOT_FOUND}
        tls, proxied = self._spec.tls_cert_file is not None, self._spec.proxy_protocol
        waits = POLL.pauses()
        while (answer := await probe("HEAD", edge, path, tls=tls, proxied=proxied))[0] not in good:
            self._step = f"edge-1, which {f'answers {answer[0]} for' if answer[0] else 'does not answer'} {path}"
            await asyncio.sleep(next(waits))

    def _what_is_missing(self) -> str:
        missing = [
            supervisor.name
            for supervisor in self._supervisors
            if supervisor.may_proceed.is_set() and not supervisor.ready.is_set()
        ]
        return ", ".join(missing) or self._step

    async def _drain(self) -> None:
        for role in DRAIN_ORDER:
            supervisors = [supervisor for supervisor in self._supervisors if supervisor.role == role]
            if not supervisors:
                continue
            self._print(f"stopping {', '.join(supervisor.name for supervisor in supervisors)}")
            grace = self._spec.drain_seconds + STOP_SECONDS
            await asyncio.gather(*(supervisor.stop(grace) for supervisor in supervisors))

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            self._print("draining; once more to stop at once")
            self._stop.set()
            return
        self._forced = number
        for supervisor in self._supervisors:
            supervisor.kill()

    def _known(self, role: str, kind: str) -> str:
        return next(
            (
                supervisor.addresses[kind]
                for supervisor in self._supervisors
                if supervisor.role == role and kind in supervisor.addresses
            ),
            "",
        )

    def _address(self, role: str, kind: str, port: int) -> str:
        """Return the address that a role has reported or, if it has reported none, that of the configured port."""
        address = self._known(role, kind)
        if address:
            return address
        if port == 0:
            raise InternalError(f"{role}-1 did not report where it listens")
        return f"127.0.0.1:{port}"

    def _grpc_ports(self) -> list[int]:
        """Return the ports of the routers, in order of their numbers; 0 where the system has yet to choose."""
        routers = (supervisor for supervisor in self._supervisors if supervisor.role == "router")
        configured = itertools.chain([self._spec.grpc_port], itertools.repeat(0))
        return [
            _port_of(router.addresses.get("grpc", "")) or port
            for router, port in zip(routers, configured, strict=False)
        ]

    def _router_addresses(self) -> str:
        """Return the addresses of the routers, separated by commas, once all have reported theirs."""
        ports = self._grpc_ports()
        if 0 in ports:
            raise InternalError("a router did not report where it listens")
        return ",".join(f"127.0.0.1:{port}" for port in ports)

    def _describe(self) -> ClusterAddresses:
        http = self._address("edge", "http", self._spec.http_port)
        admin = self._address("admin", "http", self._spec.admin_port)
        certificate = self._spec.tls_cert_file
        return ClusterAddresses(
            pid=os.getpid(),
            http_url=f"{'http' if certificate is None else 'https'}://{_reachable(http)}",
            admin_url=f"http://{_reachable(admin)}",
            grpc_address=self._router_addresses(),
            http_port=_port_of(http),
            admin_port=_port_of(admin),
            grpc_port=self._grpc_ports()[0],
            http_cert_file="" if certificate is None else certificate,
        )


def _let_go(supervisors: Sequence[ProcessSupervisor]) -> None:
    for supervisor in supervisors:
        supervisor.may_proceed.set()


async def _serve(supervisors: Sequence[ProcessSupervisor]) -> None:
    """Release processes, and wait until all of them serve."""
    _let_go(supervisors)
    for supervisor in supervisors:
        await supervisor.ready.wait()


def _reasons(status: int, body: bytes) -> str:
    """Describe the response of the admin process about the cluster."""
    try:
        return f"which says: {'; '.join(orjson.loads(body)['reasons'])}"
    except (ValueError, KeyError, TypeError):
        return f"which answers {status} for /readyz" if status else "which does not answer"


def _first(group: BaseExceptionGroup[FlowhookError]) -> FlowhookError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FlowhookError)  # noqa: S101 - for the type checker; the group was split by it
    return error


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2] or 0)


def _reachable(address: str) -> str:
    """Return an address that this machine can connect to: the loopback address in place of a wildcard."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104 - compared, not bound
