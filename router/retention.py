"""Removes ended executions once they are older than retention, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from flowhook import limits, logs
from flowhook.errors import InternalError, UnavailableError
from router.storage.bodies import Bodies
from router.storage.interface import ShardState

SWEEP_SECONDS: Final = 60.0
"""Between two sweeps that found nothing more to remove."""

STEP_SECONDS: Final = 0.05
"""Between two steps of one sweep, so that it never holds up acceptance."""

STEP: Final = 500
"""Executions removed in one step."""

log = logs.get_logger(__name__)


async def expire_forever(
    state: ShardState, bodies: Bodies, *, retention_seconds: float, now_ms: Callable[[], int]
) -> None:
    """Sweep until cancelled; storage that is away is asked again at the next sweep.

    Bodies that no event has named for `limits.UPLOAD_SECONDS` go with it.
    """
    while True:
        bodies.sweep(seconds=limits.UPLOAD_SECONDS)
        removed = 0
        try:
            while step := await state.expire(ended_before_ms=now_ms() - int(retention_seconds * 1000), limit=STEP):
                removed += step
                await asyncio.sleep(STEP_SECONDS)
        except (UnavailableError, InternalError) as error:
            log.warning("sweep failed", reason=error.reason)
        if removed:
            log.info("executions past retention removed", executions=removed)
        await asyncio.sleep(SWEEP_SECONDS)
