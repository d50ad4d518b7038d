"""Composition root of the runner's parent process."""

from __future__ import annotations

from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from runner.guard.process_starter import ProcessStarter, new_starter
from runner.guard.supervisor import WorkerSupervisor


async def serve(settings: RunnerSettings, process_state: ProcessState, starter: ProcessStarter | None = None) -> None:
    """Execute flows until `process_state.stop` is set, then drain and return.

    A caller may create the `starter` of worker processes before the settings are known, so that imports begin early; it
    is closed before this returns. `process_state.ready` is set while the router accepts this runner.

    Raises:
        InvalidError: there is no token for the router (`TOKEN_MISSING`).
    """
    await WorkerSupervisor(settings, process_state, starter or new_starter()).run()
