"""The entry point of the supervisor process, which `flowhook up` execs after its checks.

The process lives as long as the cluster and does little, so it imports little more than asyncio.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from cli import failures
from cli.supervisor import SPEC
from cli.supervisor.cluster import LocalCluster
from cli.supervisor.cluster_spec import DEFAULT_GRPC_PORT, LOOPBACK, ClusterSpec, ForeignProgram
from cli.supervisor.initial_flows import apply_flows
from cli.supervisor.progress import print_progress
from cli.supervisor.rundir import ClusterAddresses, RunDir
from flowhook.sandbox.forking import ForkingClient, spawn_fork_server, supports_fork_server

# variables that programs and libraries read when they start or are imported; processes get all others later
PASSED_ON: Final = ("GRPC_", "SSL_CERT_", "OPENSSL_CONF", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LANG", "LC_", "TZ")


def main() -> int:
    try:
        spec = ClusterSpec.from_json(os.environ.pop(SPEC))
        with closing(RunDir(Path(spec.data_dir))) as run_dir:
            return asyncio.run(_run(spec, run_dir))
    except KeyboardInterrupt:
        return failures.EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - reported before the process exits
        return failures.report_end(error)


async def _run(spec: ClusterSpec, run_dir: RunDir) -> int:
    if not spec.starts_nats:
        return await _run_processes(spec, run_dir, ())
    from cli.supervisor.nats_servers import NatsServers

    with closing(NatsServers.prepare(Path(spec.data_dir))) as servers:
        storage = servers.storage(spec.storage.partition("?")[2])
        return await _run_processes(replace(spec, storage=storage), run_dir, servers.programs(spec.environment()))


async def _run_processes(spec: ClusterSpec, run_dir: RunDir, log_servers: Sequence[ForeignProgram]) -> int:
    webhooks: list[str] = []

    async def apply(routers: asyncio.Future[str]) -> None:
        async def settings() -> Mapping[str, str]:
            addresses = (await asyncio.shield(routers)).split(",")
            ports = [int(address.rpartition(":")[2]) for address in addresses]
            return spec.settings("", "", http_port=0, admin_port=0, grpc_ports=ports)

        webhooks.extend(await apply_flows(spec.apply_command(), settings, print_line=print_progress))

    forks = _fork_server(spec) if supports_fork_server() else None
    cluster = LocalCluster(
        spec=spec,
        run_dir=run_dir,
        print_line=print_progress,
        apply_flows=apply,
        on_ready=lambda where, code: _print_ready(spec, where, webhooks, code),
        probe_path=lambda: f"/hook/{webhooks[0]}" if webhooks else "",
        log_servers=log_servers,
        forks=forks,
    )
    try:
        return await cluster.run()
    finally:
        if forks is not None:
            await forks.close()


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
    for flow_id in webhooks:
        print_progress(f"webhook  {addresses.http_url}/hook/{flow_id}")
    print_progress(f"http     {addresses.http_url}")
    print_progress(f"admin    {addresses.admin_url}")
    print_progress(f"grpc     {addresses.grpc_address}")
    print_progress(f"console  {addresses.admin_url}/login#{login_code} (logs in once, within an hour)")
    print_progress(f"list     {_command(spec, addresses)}")
    print_progress("flowhook ready")


def _command(spec: ClusterSpec, addresses: ClusterAddresses) -> str:
    """Return the command that lists executions, as it can be copied to another terminal in this directory."""
    words = [spec.program, "executions", "list"]
    if addresses.grpc_address != f"{LOOPBACK}:{DEFAULT_GRPC_PORT}":
        words += ["--router", addresses.grpc_address]
    if Path(spec.data_dir) != Path("data").absolute():
        words += ["--data-dir", spec.data_dir]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
