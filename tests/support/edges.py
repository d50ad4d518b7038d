"""A real edge in this process, before a router that is one."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from unittest import mock

from prometheus_client import CollectorRegistry
from support.patience import PATIENCE

from edge import app
from edge.router.rejections import RejectionReporter
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings


@asynccontextmanager
async def running_edge(router, *, target=None, limits=None, **settings):
    """Serve before a `RunningRouter`, and report rejections at once; yield the address, `HOST:PORT`.

    It reaches the router at `target`, if given.
    """
    settings = {"http_port": 0, "drain_seconds": 0.1, "host": "127.0.0.1", "router": target or router.target} | settings
    chosen = EdgeSettings(data_dir=router.settings.data_dir, **settings)
    lifecycle = ProcessState(name="edge-1", role="edge")
    prompt = functools.partial(RejectionReporter, flush_seconds=0.01)
    with mock.patch.object(app, "RejectionReporter", prompt):
        serving = asyncio.create_task(app.serve(chosen, lifecycle, registry=CollectorRegistry(), limits=limits))
        await asyncio.sleep(0)
    ready = asyncio.create_task(lifecycle.ready.wait())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield lifecycle.addresses["http"]
    finally:
        ready.cancel()
        lifecycle.stop.set()
        await serving
