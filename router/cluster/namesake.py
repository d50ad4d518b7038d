"""Refuses a router whose name another has: each would take the other's heartbeats for its own, and never yield."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from flowhook.errors import ConflictError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from router.cluster.records import HEARTBEAT_SECONDS
from router.storage.commit_log.interface import Heartbeats

# a router that hears its name within this time after its start, and is not ready yet, is the one that ends
NEW_SECONDS: Final = 4 * HEARTBEAT_SECONDS
REPEAT_SECONDS: Final = 60.0  # between two warnings
log = logs.get_logger(__name__)


@contextlib.asynccontextmanager
async def refuse_namesake(name: str, heartbeats: Heartbeats, process_state: ProcessState) -> AsyncIterator[None]:
    """Stop the process while it is new and its name is in use; later, log an error for as long as that is so.

    If that stopped the process, the block ends with a ConflictError (`ROUTER_NAME_IN_USE`).
    """
    watching = asyncio.create_task(_watch(name, heartbeats, process_state), name="listen for the own name")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    if not watching.cancelled():
        await watching


async def _watch(name: str, heartbeats: Heartbeats, process_state: ProcessState) -> None:
    started, warned = time.monotonic(), 0.0
    while True:
        heard, now = heartbeats.namesake(), time.monotonic()
        if heard and heard - started < NEW_SECONDS and not process_state.ready.is_set():
            process_state.stop.set()
            raise ConflictError(
                f"another router is named {name}: give each its own FLOWHOOK_PROCESS_NAME", reason="ROUTER_NAME_IN_USE"
            )
        if heard and now - heard < REPEAT_SECONDS and (not warned or now - warned >= REPEAT_SECONDS):
            warned = now
            log.error("another router has this one's name: give each its own FLOWHOOK_PROCESS_NAME", name=name)
        await asyncio.sleep(HEARTBEAT_SECONDS)
