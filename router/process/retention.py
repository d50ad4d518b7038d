"""Removes ended executions and former revisions of flows that are past retention, in small steps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from flowhook import limits
from flowhook.errors import InternalError, UnavailableError
from flowhook.process import logs
from router.storage.bodies import BodyStore
from router.storage.interface import Registry, ShardState

SWEEP_SECONDS: Final = 60.0
"""Between two sweeps."""

STEP_SECONDS: Final = 0.05
"""Between two steps of one sweep, so that it never holds up acceptance."""

STEP: Final = 500
"""Executions removed in one step."""

REVISION_SWEEPS: Final = 60
"""One in this many sweeps removes revisions, too: that takes longer, and few revisions are created in an hour."""

log = logs.get_logger(__name__)


async def expire_forever(
    state: ShardState, bodies: BodyStore, registry: Registry, *, retention_seconds: float, now_ms: Callable[[], int]
) -> None:
    """Sweep until cancelled; when storage fails, the next sweep tries again.

    Each sweep also removes bodies that no event has referred to for `limits.UPLOAD_SECONDS`.
    """
    for number in itertools.count():
        bodies.sweep(seconds=limits.UPLOAD_SECONDS)
        executions = revisions = 0
        before_ms = now_ms() - int(retention_seconds * 1000)
        try:
            while step := await state.expire(ended_before_ms=before_ms, limit=STEP):
                executions += step
                await asyncio.sleep(STEP_SECONDS)
            if number % REVISION_SWEEPS == 0:
                revisions = await registry.forget_revisions(superseded_before_ms=before_ms)
        except (UnavailableError, InternalError) as error:
            log.warning("sweep failed", reason=error.reason)
        if executions or revisions:
            log.info("expired executions removed", executions=executions, revisions=revisions)
        await asyncio.sleep(SWEEP_SECONDS)
