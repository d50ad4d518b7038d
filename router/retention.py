"""Removes what is older than retention, a little at a time: ended executions, and former revisions of flows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from flowhook import limits, logs
from flowhook.errors import InternalError, UnavailableError
from router.storage.bodies import Bodies
from router.storage.interface import Registry, ShardState

SWEEP_SECONDS: Final = 60.0
"""Between two sweeps that found nothing more to remove."""

STEP_SECONDS: Final = 0.05
"""Between two steps of one sweep, so that it never holds up acceptance."""

STEP: Final = 500
"""Executions removed in one step."""

REVISION_SWEEPS: Final = 60
"""Sweeps of which one looks for revisions, too: it takes longer, and nobody makes many in an hour."""

log = logs.get_logger(__name__)


async def expire_forever(
    state: ShardState, bodies: Bodies, registry: Registry, *, retention_seconds: float, now_ms: Callable[[], int]
) -> None:
    """Sweep until cancelled; storage that is away is asked again at the next sweep.

    Bodies that no event has named for `limits.UPLOAD_SECONDS` go with it.
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
            log.info("what is past retention was removed", executions=executions, revisions=revisions)
        await asyncio.sleep(SWEEP_SECONDS)
