"""`flowhook up`, `dev`: runs a local cluster; `dev` follows flow files, and prints what arrives."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from cli import failures
from cli.commands.components import write_schema
from cli.options import read_settings, settings_command
from cli.supervisor import SPEC
from cli.supervisor.cluster import first_error, run_cluster
from cli.supervisor.cluster_spec import DEFAULT_GRPC_PORT, LOOPBACK, ClusterSpec
from cli.supervisor.progress import print_progress
from cli.supervisor.rundir import DEV_DATA_DIR, make_dev_directory
from flowhook.errors import FlowhookError, InvalidError, InvalidFlowError
from flowhook.process.confidential_settings import FileSettings, MayHaveSecret
from flowhook.process.router_addresses import MAX_ROUTERS
from flowhook.process.settings import Grace, Port, PublicUrl

if TYPE_CHECKING:
    from cli.development import Tunnel, WatchedFlows
    from cli.supervisor.rundir import ClusterAddresses, RunDir
    from flowhook.client import AsyncClient


PORTS: Final = ("http_port", "admin_port", "grpc_port")
MAX_PORT: Final = 65535


class UpSettings(FileSettings):
    """The local cluster."""

    data_dir: Path = Path("data")
    """Directory of the database, keys, tokens and pid files."""
    host: str = LOOPBACK
    """Address that senders reach; gRPC and admin stay on 127.0.0.1."""
    http_port: Port = 8080
    """Port that senders reach; 0 lets the system choose."""
    admin_port: Port = 8081
    """Port of health, metrics and the console; 0 lets the system choose."""
    grpc_port: Port = DEFAULT_GRPC_PORT
    """Port of the first router; 0 lets the system choose, as it does for the others."""
    port_offset: Port = 0
    """Number that is added to each of these ports, for a second cluster on this machine; 0 stays 0."""
    edges: Annotated[int, Field(ge=1, le=64)] = 1
    """How many edges share the HTTP port."""
    routers: Annotated[int, Field(ge=1, le=MAX_ROUTERS)] = 1
    """How many routers; SQLite allows one, a replicated log more: one owner, and standbys."""
    runners: Annotated[int, Field(ge=1, le=64)] = 2
    """How many runners."""
    storage: MayHaveSecret = ""
    """Storage: sqlite:PATH; nats: for a replicated log on three NATS servers that are started here, or nats://HOST:PORT,…
    for one on other servers. Empty: flowhook.db in the data directory."""
    flows: Path | None = None
    """Directory or file of flows to apply at the start."""
    public_url: PublicUrl = ""
    """Scheme and host that senders use, where a proxy hides them; empty: those of the edges."""
    tls_cert_file: Path | None = None
    """PEM certificate, with its chain, that senders see; read again when it changes. Absent: no TLS. Of edges alone."""
    tls_key_file: Path | None = None
    """PEM key of that certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of the authorities that issue senders' certificates, for `auth: {mtls: …}`."""
    proxy_protocol: bool = False
    """Whether senders' connections begin with a header of the PROXY protocol, from a balancer in front of the edges."""
    allow_private_addresses: bool = False
    """Let flows call private, loopback and link-local addresses."""
    allow_loopback_addresses: bool | None = None
    """Let flows call loopback addresses, which are those of this machine. Default: if `host` is one and `public_url` is
    empty, so that only this machine sends events."""
    drain_seconds: Grace = 10.0
    """Time that work in progress may take after `up` receives SIGTERM or SIGINT; of each process."""

    def spec(self) -> ClusterSpec:
        """Return the settings as a specification: plain values, with absolute paths, and ports with their offset."""
        paths = {
            name: str(value.absolute())
            for name in UpSettings.model_fields
            if isinstance(value := getattr(self, name), Path)
        }
        allowed = self.allow_loopback_addresses
        if allowed is None:
            allowed = _is_loopback(self.host) and not self.public_url
        plain = self.model_dump(include=set(UpSettings.model_fields) - {"port_offset"})
        ports = {name: port + self.port_offset for name in PORTS if (port := plain[name])}
        if max(ports.values(), default=0) > MAX_PORT:
            raise InvalidError(f"--port-offset {self.port_offset}: no port is above {MAX_PORT}", reason="PORT_INVALID")
        return ClusterSpec(**{**plain, **paths, **ports, "allow_loopback_addresses": allowed})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _start(settings: UpSettings) -> int:
    try:
        return _dev(settings) if isinstance(settings, DevSettings) else _up(settings)
    except FlowhookError as error:
        return failures.report_end(error)


def _up(settings: UpSettings) -> int:
    """Check everything that can be refused before anything is started; then exec the supervisor.

    The process ID stays the same, but the code that only the checks need is no longer in memory: the supervisor lives
    as long as the cluster.
    """
    from cli.supervisor.rundir import RunDir

    check(settings)
    if settings.flows is not None:
        from cli import flow_files

        # `cli.applying` fetches functions of catalogs, and decides about those that are away
        if faults := flow_files.check_flow_files([settings.flows], {}, fetches=False)[1]:
            raise InvalidFlowError(faults)
    spec = settings.spec()
    with closing(RunDir(settings.data_dir)):
        prepare(settings, spec)
    sys.stdout.flush()
    # the supervisor ignores the last arguments; they identify the process in a process list
    arguments = [sys.executable, "-P", "-m", "cli.supervisor", "flowhook", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, SPEC: replace(spec, program=program()).to_json()})  # noqa: S606 - no shell is wanted


def check(settings: UpSettings) -> None:
    """Refuse limits and certificates with which no cluster starts, before anything is written."""
    from flowhook.process import kernel

    kernel.ensure_limit()
    if (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file) != (None, None, None):
        from flowhook.process.server_certificates import load_certificates

        load_certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def prepare(settings: UpSettings, spec: ClusterSpec) -> None:
    """Check that the cluster can be started, and create tokens and keys; the caller has locked its directory."""
    from flowhook.security.private_files import restrict_permissions
    from flowhook.security.tokens import ensure_tokens

    spec.check()
    restrict_permissions(settings.data_dir)
    ensure_tokens(settings.data_dir)
    if spec.replicated:
        from flowhook.process.settings import RouterSettings
        from router.storage.encryption import load_secrets_key

        # creates the key of secrets if there is none: one router of several must not create its own
        load_secrets_key(settings.data_dir, read_settings(RouterSettings, {}).secrets_key)


def program() -> str:
    """Return the command as the user wrote it; `python -m cli` has no better name than its own."""
    return sys.argv[0] if Path(sys.argv[0]).name == "flowhook" else "flowhook"


up = settings_command(
    UpSettings, _start, help_text="Run a local cluster: edges, routers, runners and admin. Ctrl-C drains and stops it."
)


class DevSettings(UpSettings):
    """The settings of `up`, with other defaults, and some more."""

    data_dir: Path = DEV_DATA_DIR
    """Directory of the database, keys, tokens and pid files."""
    runners: int = 1
    """How many runners."""
    flows: Path | None = Path()
    """Directory or file of flows: they are applied whenever they change."""
    tunnel: str = ""
    """Program that makes the webhooks reachable from the internet: cloudflared, ngrok, tailscale, or a command that
    prints its URL, with {port} for the HTTP port. Empty: none."""
    open: bool | None = None
    """Open the console in a browser, logged in. Default: if this is a terminal of a desktop."""


def _dev(settings: DevSettings) -> int:
    from cli.supervisor.rundir import RunDir

    check(settings)
    flows = (settings.flows or Path()).absolute()
    if not flows.exists():
        raise InvalidError(f"{settings.flows}: there is no such file or directory", reason="FLOW_FILE_MISSING")
    if settings.tunnel and (settings.http_port == 0 or settings.tls_cert_file is not None):
        cause = "--tunnel needs an --http-port other than 0, and no --tls-cert-file: the tunnel has TLS of its own"
        raise InvalidError(cause, reason="TUNNEL_INVALID")
    spec = replace(settings.spec(), program=program())
    if settings.data_dir == DEV_DATA_DIR:
        make_dev_directory()
    with closing(RunDir(settings.data_dir)) as run_dir:
        prepare(settings, spec)
        os.environ.setdefault("FLOWHOOK_LOG_LEVEL", "error")  # what is refused is printed here
        return asyncio.run(_run(settings, spec, flows, run_dir))


async def _run(settings: DevSettings, spec: ClusterSpec, flows: Path, run_dir: RunDir) -> int:
    from cli.development import PROGRAMS, WatchedFlows, open_tunnel

    development = _Development(WatchedFlows(flows, settings.data_dir), run_dir if _opens(settings.open) else None)
    async with AsyncExitStack() as stack:
        tunnel = None
        if settings.tunnel:
            opening = open_tunnel(settings.tunnel, spec.http_port, settings.public_url)
            tunnel = await stack.enter_async_context(opening)
            print_progress(f"tunnel   {tunnel.url.result()} leads to webhooks only, not to console, API and gRPC")
            if settings.tunnel in PROGRAMS:  # the addresses of senders are those that it forwards
                os.environ.setdefault("FLOWHOOK_TRUSTED_PROXIES", "127.0.0.1,::1")
            spec = replace(settings.model_copy(update={"public_url": tunnel.url.result()}).spec(), program=program())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(development.attend())]
                if tunnel is not None:
                    tasks.append(group.create_task(development.end_with(tunnel)))
                code = await run_cluster(spec, run_dir, development, development.on_ready)
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as failures:
            raise first_error(failures) from None
    return code or development.exit_code


@dataclass(slots=True)
class _Development:
    """What goes on beside the cluster: flow files are followed, and arrivals are printed."""

    flows: WatchedFlows
    opens: RunDir | None  # for the page that leads to the console; None: it is not opened
    exit_code: int = field(init=False, default=0)
    # set once the flows are applied, and once arrivals are watched, which edges wait for
    _client: asyncio.Future[AsyncClient] = field(init=False, default_factory=asyncio.Future)
    _watching: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    @property
    def webhooks(self) -> Sequence[str]:
        return self.flows.webhooks

    async def apply(self, routers: asyncio.Future[str]) -> None:
        from flowhook.client import AsyncClient
        from flowhook.process.settings import CommonSettings, read_token

        # the token of this cluster, whatever the environment has for another one
        token = read_token(CommonSettings(data_dir=self.flows.data_dir).model_copy(update={"token": None}), "admin")
        client = AsyncClient(await asyncio.shield(routers), token=token)
        await self.flows.apply(client)
        self._client.set_result(client)
        await self._watching.wait()

    def on_ready(self, addresses: ClusterAddresses, login_code: str) -> None:
        self.flows.url = addresses.public_url or addresses.http_url
        page = self.opens and self.opens.write_login(f"{addresses.admin_url}/login#{login_code}")
        threading.Thread(target=self._welcome, args=(page,), daemon=True).start()

    def _welcome(self, page: Path | None) -> None:
        """Open the console, and renew the schema that editors use. Blocking."""
        if page:
            webbrowser.open(page.as_uri())
        if self.flows.data_dir == DEV_DATA_DIR:
            write_schema()

    async def end_with(self, tunnel: Tunnel) -> None:
        """End the cluster when the tunnel has ended: senders would get no answer, and another one has another URL."""
        await tunnel.ended.wait()
        print(f"flowhook: {tunnel.describe_end()}", file=sys.stderr, flush=True)
        self.exit_code = failures.EXIT_REFUSED
        os.kill(os.getpid(), signal.SIGTERM)

    async def attend(self) -> None:
        from cli.development import print_arrivals

        async with await self._client as client, asyncio.TaskGroup() as group:
            group.create_task(self.flows.watch(client))
            group.create_task(print_arrivals(client, self._watching.set))


def _opens(wanted: bool | None) -> bool:  # noqa: FBT001 - its only argument
    """Whether to open a browser: by default where a person sits at a desktop, and no browser of a terminal is meant."""
    if wanted is not None:
        return wanted
    desktop = sys.platform == "darwin" or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return desktop and sys.stdout.isatty()


dev = settings_command(
    DevSettings,
    _start,
    help_text="Run a local cluster that applies flow files whenever they change, and print what arrives.",
    argument=("flows", "DIR", "Directory of the flow files, or one of them; default: this one."),
)
