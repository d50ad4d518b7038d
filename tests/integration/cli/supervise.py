# ruff: noqa: T201 - what it prints is what tests read
"""A supervisor of stand-ins as a process of its own: `supervise.py DATA_DIR EDGES RUNNERS ROUTERS [nats]`. For tests
that kill it. With `nats` it also starts NATS servers, which are real."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from cli.supervisor import cluster, progress
from cli.supervisor.cluster import LocalCluster
from cli.supervisor.cluster_spec import Command
from cli.supervisor.nats_servers import NatsServers
from cli.supervisor.rundir import RunDir
from flowhook.errors import FlowhookError
from flowhook.retrying import BackoffPolicy

CHILD = Path(__file__).with_name("child.py")


class Plan:
    """As many stand-ins of each role as were asked for, all ports chosen by the system."""

    host = "127.0.0.1"
    http_port = admin_port = grpc_port = 0
    tls_cert_file = None
    public_url = storage_url = ""
    proxy_protocol = False
    drain_seconds = float(os.environ.get("DRAIN_SECONDS", "10"))

    def __init__(self, edges, runners, routers):
        self._counts = {"edge": edges, "runner": runners, "router": routers, "admin": 1}

    def names(self, role):
        return [f"{role}-{number}" for number in range(1, self._counts[role] + 1)]

    def command(self, role, name):
        return Command([sys.executable, str(CHILD), role], {**os.environ, "FLOWHOOK_PROCESS_NAME": name})

    def settings(self, role, name, *, http_port, admin_port, grpc_ports, losses_explained, login_code):
        return {
            "FLOWHOOK_HTTP_PORT": str(http_port),
            "FLOWHOOK_ADMIN_PORT": str(admin_port),
            "FLOWHOOK_GRPC_PORT": str(grpc_ports[int(name.partition("-")[2]) - 1] if role == "router" else 0),
            "LOSSES_EXPLAINED": str(losses_explained),
        }


class Flows:
    """One flow with a webhook, which is there already."""

    webhooks = ("x",)

    async def apply(self, routers):
        print(f"router at {await routers}", flush=True)


async def supervise(run_dir, plan, log_servers):
    supervised = LocalCluster(
        spec=plan,
        run_dir=run_dir,
        flows=Flows(),
        on_ready=lambda where, _: print(f"ready {where.http_url}", flush=True),
        log_servers=log_servers,
    )
    return await supervised.run()


def main():
    progress.REMINDERS = BackoffPolicy(0.3, 0.3)  # s; tests wait for less time than a start takes
    cluster.STOP_SECONDS = 0.5
    run_dir = None
    try:
        run_dir = RunDir(Path(sys.argv[1]))
        servers = NatsServers.prepare(Path(sys.argv[1])) if "nats" in sys.argv[5:] else None
        return asyncio.run(
            supervise(run_dir, Plan(*map(int, sys.argv[2:5])), servers.programs(os.environ) if servers else ())
        )
    except FlowhookError as error:
        print(error.message, file=sys.stderr)
        return 1
    finally:
        if run_dir is not None:
            run_dir.close()


if __name__ == "__main__":
    sys.exit(main())
