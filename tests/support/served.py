"""Whole runners, parent and child, in the loop of a test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from runner import app


@asynccontextmanager
async def running_runner(router, name):
    settings = RunnerSettings(
        router=router.target, token=router.token("runner"), process_name=name, allow_private_addresses=True,
        drain_seconds=0.5,
    )  # fmt: skip
    lifecycle = ProcessState(name=name, role="runner")
    serving = asyncio.create_task(app.serve(settings, lifecycle))
    try:
        yield
    finally:
        lifecycle.stop.set()
        await serving
