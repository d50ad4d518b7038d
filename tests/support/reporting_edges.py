"""A real edge in this process, before a real router."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from edge import app
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings


@asynccontextmanager
async def reporting_edge(router, name="edge-1", **settings):
    """Serve until the router knows the edge's URL, which is yielded, and then until the end."""
    settings = EdgeSettings(
        data_dir=router.settings.data_dir, router=router.target, http_port=0, drain_seconds=0.1, **settings
    )
    lifecycle = ProcessState(name=name, role="edge")
    serving = asyncio.create_task(app.serve(settings, lifecycle, registry=CollectorRegistry()))
    ready = asyncio.create_task(lifecycle.ready.wait())
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        async with router.client() as client:
            while not (url := {each.name: each.url for each in await client.cluster.processes()}.get(name)):
                await asyncio.sleep(0.02)  # until the edge's next report
        yield url
    finally:
        ready.cancel()
        lifecycle.stop.set()
        await serving
