"""Ends what waits for a router that does not answer anything any more, and nothing that is only slow."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, UnavailableError

# time that work may take before the router is asked for a sign of life; then after each further such time
PATIENCE_SECONDS: Final = 2.0
# time within which a router that is only busy answers a call that reads nothing from storage
SILENCE_SECONDS: Final = 3.0


async def until_router_hangs(
    work: Coroutine[Any, Any, None], client: AsyncClient, patience: float = PATIENCE_SECONDS
) -> None:
    """Await work that calls the router, and cancel it once the router gives no sign of life.

    `client`: its timeout is the time within which the router must answer, `SILENCE_SECONDS`.

    Raises:
        UnavailableError: the router did not answer within that time.
        FlowhookError: the work raised it.
    """
    working = asyncio.create_task(work, name="show a page")
    try:
        while not (await asyncio.wait({working}, timeout=patience))[0]:
            asking = asyncio.create_task(_ask(client), name="ask the router for a sign of life")
            try:
                await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    asking.result()
            finally:
                await _cancel(asking)
        working.result()
    finally:
        await _cancel(working)


async def _ask(client: AsyncClient) -> None:
    try:
        await client.cluster.processes(metrics=False)
    except UnavailableError:
        raise
    except FlowhookError:
        return  # it refuses, so it answers


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
