"""Composition root of the runner's parent process."""

from __future__ import annotations

from flowhook.config import RunnerSettings
from flowhook.process import Lifecycle
from runner.guard.keeper import Keeper


async def serve(settings: RunnerSettings, lifecycle: Lifecycle) -> None:
    """Execute flows until `lifecycle.stop` is set, then drain and return.

    `lifecycle.ready` is set while the router accepts this runner; the child reports to it, so nothing else need to.

    Raises:
        InvalidError: there is no token to show to the router (`TOKEN_MISSING`).
    """
    await Keeper(settings, lifecycle).run()
