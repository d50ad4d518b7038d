"""`flowhook up`: the local cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from cli.options import command_of
from cli.progress import say
from cli.supervisor.plan import UpSettings

if TYPE_CHECKING:
    from cli.flow_files import FlowFile
    from cli.supervisor.rundir import ClusterFile, RunDir
    from flowhook.client import AppliedFlow

HELP = "Run a local cluster: edges, a router, runners and admin. Ctrl-C drains and stops it."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(command_of(UpSettings, _up, help_text=HELP))


def _up(settings: UpSettings) -> int:
    from cli import flow_files
    from cli.supervisor.rundir import RunDir
    from edge import tls
    from flowhook import open_files
    from flowhook.tokens import ensure_tokens

    open_files.ensure()
    # everything that can be refused is, before anything is started
    files = flow_files.read([settings.flows]) if settings.flows is not None else []
    tls.load(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    run_dir = RunDir(settings.data_dir)
    try:
        settings.check()
        ensure_tokens(settings.data_dir)
        return asyncio.run(_run(settings, run_dir, files))
    finally:
        run_dir.close()


async def _run(settings: UpSettings, run_dir: RunDir, files: Sequence[FlowFile]) -> int:
    from cli.supervisor.cluster import Cluster
    from flowhook.config import CommonSettings, read_token

    webhooks: list[str] = []

    async def apply_flows(address: str) -> None:
        from flowhook.client import AsyncClient

        # the token of this cluster, whatever the environment says about another one
        common = CommonSettings(data_dir=settings.data_dir).model_copy(update={"token": None})
        async with AsyncClient(address, token=read_token(common, "admin")) as client:
            if files:
                for applied in await client.flows.apply([file.content for file in files]):
                    _say_applied(applied)
            webhooks.extend([flow.id async for flow in client.flows.list() if flow.has_webhook])

    cluster = Cluster(
        settings,
        run_dir,
        say=say,
        on_router=apply_flows,
        on_ready=lambda where: _say_ready(where, webhooks),
        probe_path=lambda: f"/hook/{webhooks[0]}" if webhooks else "",
    )
    return await cluster.run()


def _say_applied(applied: AppliedFlow) -> None:
    say(f"flow {applied.flow.id}: {applied.change}")
    for warning in applied.warnings:
        print(f"flow {applied.flow.id}: {warning}", file=sys.stderr, flush=True)


def _say_ready(where: ClusterFile, webhooks: Sequence[str]) -> None:
    for flow_id in webhooks:
        say(f"webhook  {where.http_url}/hook/{flow_id}")
    say(f"http     {where.http_url}")
    say(f"admin    {where.admin_url}")
    say(f"grpc     {where.grpc_address}")
    say("flowhook ready")
