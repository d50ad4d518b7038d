"""Maps each role (edge, router, runner, admin) to its settings and to the code that runs it, imported on demand."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from flowhook.process.settings import AdminSettings, CommonSettings, EdgeSettings, RouterSettings, RunnerSettings

if TYPE_CHECKING:
    from flowhook.process.process_state import ProcessState

S = TypeVar("S", bound=CommonSettings)

# or gRPC prints a line on stderr for each connection that a router closes; read when gRPC is imported, which is later
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@dataclass(frozen=True, slots=True)
class Role(Generic[S]):
    """One kind of process."""

    settings: type[S]  # model of its settings
    # imports its code, and returns a function that runs a process to its end and returns the exit code
    load: Callable[[], Callable[[S], int]]

    def run(self, settings: S) -> int:
        """Import the code, run a process to its end and return the exit code."""
        return self.load()(settings)


def _edge() -> Callable[[EdgeSettings], int]:
    from edge import app
    from flowhook.process import lifecycle

    return lambda settings: lifecycle.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "edge")


def _router() -> Callable[[RouterSettings], int]:
    from flowhook.process import lifecycle
    from router.process import app

    return lambda settings: lifecycle.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "router")


def _runner() -> Callable[[RunnerSettings], int]:
    from runner.guard import process_starter

    starter = process_starter.new_starter()  # imports the code of worker processes in parallel with the imports below

    from flowhook.process import lifecycle
    from runner import app

    return lambda settings: lifecycle.run(lambda lifecycle: app.serve(settings, lifecycle, starter), settings, "runner")


def _admin() -> Callable[[AdminSettings], int]:
    from admin import app
    from flowhook.process import lifecycle
    from runner.tracing.tracer import ExecutionTracer

    async def serve(settings: AdminSettings, process_state: ProcessState) -> None:
        async with aclosing(ExecutionTracer()) as tracer:
            await app.serve(settings, process_state, tracer)

    return lambda settings: lifecycle.run(lambda lifecycle: serve(settings, lifecycle), settings, "admin")


EDGE: Final = Role(EdgeSettings, _edge)
ROUTER: Final = Role(RouterSettings, _router)
RUNNER: Final = Role(RunnerSettings, _runner)
ADMIN: Final = Role(AdminSettings, _admin)
