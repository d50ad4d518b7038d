"""Keeps a stream to the router open on which it asks for the verification of refused requests."""

from __future__ import annotations

import asyncio
from typing import Final

from edge.router.client import RouterClient
from edge.router.grpc_verifier import Verify
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.process import logs

RECONNECT_SECONDS: Final = 0.5

REFUSED_SECONDS: Final = 15.0
"""Pause after a router refused the stream, as one of an earlier version does."""

log = logs.get_logger(__name__)


async def attach_forever(router: RouterClient, verify: Verify) -> None:
    """Attach to the router as a verifier whenever it is there, until cancelled."""
    while True:
        pause = RECONNECT_SECONDS
        try:
            await router.verify_rejections(verify)
        except UnavailableError:
            pass  # the watch of flows reports that the router is away
        except FlowhookError as error:
            log.debug("not attached as a verifier", reason=error.reason)
            pause = REFUSED_SECONDS
        await asyncio.sleep(pause)
