"""Composition root of the runner's parent process."""

from __future__ import annotations

from flowhook.config import RunnerSettings
from flowhook.process import Lifecycle
from runner.guard.keeper import Keeper
from runner.guard.starting import Starter, new_starter


async def serve(settings: RunnerSettings, lifecycle: Lifecycle, starter: Starter | None = None) -> None:
    """Execute flows until `lifecycle.stop` is set, then drain and return.

    `starter` starts working processes; one that was made before the settings were known has begun to import what they
    need. It is closed in the end.

    `lifecycle.ready` is set while the router accepts this runner; the child reports to it, so nothing else need to.

    Raises:
        InvalidError: there is no token to show to the router (`TOKEN_MISSING`).
    """
    await Keeper(settings, lifecycle, starter or new_starter()).run()
