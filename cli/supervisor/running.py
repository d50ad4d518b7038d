"""Runs a local cluster in this process, from its start to the end of its drain."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cli.supervisor.cluster import FlowSource, LocalCluster
from cli.supervisor.cluster_spec import DEFAULT_GRPC_PORT, LOOPBACK, ClusterSpec, ForeignProgram
from cli.supervisor.initial_flows import apply_flows
from cli.supervisor.progress import print_progress
from cli.supervisor.rundir import DEV_DATA_DIR, ClusterAddresses, RunDir
from flowhook.sandbox.forking import ForkingClient, spawn_fork_server, supports_fork_server

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
