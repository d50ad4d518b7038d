"""A real router in this process, on a free port, with real storage, and clients with each kind of token."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from support.patience import PATIENCE

from flowhook.client import AsyncClient
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from router.process import app

FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
do:
  - keep: {set: {seen: "${ . }"}}
"""


def flow(name, extra=b""):
    return FLOW.replace(b"NAME", name.encode()) + extra


class RunningRouter:
    """A router that serves, and how to reach it."""

    def __init__(self, settings, lifecycle):
        self.settings = settings
        self.lifecycle = lifecycle
        self.target = lifecycle.addresses["grpc"]

    def token(self, role="admin"):
        return Path(self.settings.data_dir, f"{role}.token").read_text().strip()

    def client(self, role="admin"):
        return AsyncClient(self.target, token=self.token(role), timeout=PATIENCE)


@asynccontextmanager
async def running_router(data_dir, *, limits=None, **settings):
    """Serve, with limits of `flowhook.sharing.table`.

    Leases are long unless a test says otherwise: its runners renew none, and the machine may be busy.
    """
    settings = RouterSettings(
        data_dir=data_dir, **{"grpc_port": 0, "drain_seconds": 0.1, "lease_seconds": 60} | settings
    )
    lifecycle = ProcessState(name="router-1", role="router")
    serving = asyncio.create_task(app.serve(settings, lifecycle, registry=CollectorRegistry(), limits=limits))
    ready = asyncio.create_task(lifecycle.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        ready.cancel()
        await serving
    try:
        yield RunningRouter(settings, lifecycle)
    finally:
        lifecycle.stop.set()
        await serving
