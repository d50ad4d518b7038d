"""Keeps a stream to the router open on which it asks for the verification of refused requests."""

from __future__ import annotations

import asyncio
from typing import Final

from edge.router.client import RouterClient
from edge.router.grpc_verifier import Verify
from flowhook import logs
from flowhook.errors import FlowhookError

RECONNECT_SECONDS: Final = 0.5
MAX_RECONNECT_SECONDS: Final = 15.0

log = logs.get_logger(__name__)


async def attach_forever(router: RouterClient, verify: Verify, *, seconds: float = RECONNECT_SECONDS) -> None:
    """Attach to the router as a verifier whenever it is there, until cancelled; after `seconds` at first."""
    pause = seconds
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await router.verify_rejections(verify)
        except FlowhookError as error:  # the watch of flows reports that the router is away
            log.debug("not attached as a verifier", reason=error.reason)
        if asyncio.get_running_loop().time() - began > MAX_RECONNECT_SECONDS:
            pause = seconds
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_RECONNECT_SECONDS)
