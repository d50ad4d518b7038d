"""`flowhook dev`: a local cluster that follows flow files, and prints what arrives."""

from __future__ import annotations

import asyncio
import inspect
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

from typer import Argument

from cli import failures
from cli.commands.components import write_schema
from cli.commands.up import UpSettings, check, prepare, program
from cli.options import settings_command
from cli.supervisor.cluster import first_error, run_cluster
from cli.supervisor.cluster_spec import ClusterSpec
from cli.supervisor.progress import print_progress
from cli.supervisor.rundir import DEV_DATA_DIR, make_dev_directory
from flowhook.errors import FlowhookError, InvalidError

if TYPE_CHECKING:
    from cli.development import Tunnel, WatchedFlows
    from cli.supervisor.rundir import ClusterAddresses, RunDir
    from flowhook.client import AsyncClient

_DIRECTORY_HELP: Final = "Directory of the flow files, or one of them; default: this one."


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


def _start(settings: DevSettings) -> int:
    try:
        return _dev(settings)
    except FlowhookError as error:
        return failures.report_end(error)


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
            opening = open_tunnel(settings.tunnel, settings.http_port, settings.public_url)
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


command = settings_command(
    DevSettings,
    _start,
    help_text="Run a local cluster that applies flow files whenever they change, and print what arrives.",
)
_signature = inspect.signature(command)
command.__signature__ = _signature.replace(  # type: ignore[attr-defined]  # what typer reads
    parameters=[
        each.replace(annotation=Annotated[str | None, Argument(metavar="DIR", help=_DIRECTORY_HELP)])
        if each.name == "flows"
        else each
        for each in _signature.parameters.values()
    ]
)
