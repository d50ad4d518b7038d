"""The kinds of processes: their settings, and the code that runs them, which is imported on demand."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from flowhook.process.settings import AdminSettings, CommonSettings, EdgeSettings, RouterSettings, RunnerSettings

if TYPE_CHECKING:
    from flowhook.process.process_state import ProcessState

    Serve = Callable[[Any, ProcessState], Awaitable[None]]

# or gRPC prints a line on stderr for each connection that a router closes; read when gRPC is imported, which is later
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process."""

    name: str
    settings: type[CommonSettings]
    help: str
    load_serve: Callable[[], Serve]  # imports its code, and returns what serves until a process is stopped

    def load(self) -> Callable[[Any], int]:
        """Import its code, and return a function that runs a process to its end and returns the exit code."""
        serve = self.load_serve()
        from flowhook.process import lifecycle

        return lambda settings: lifecycle.run(partial(serve, settings), settings, self.name)

    def run(self, settings: Any) -> int:
        return self.load()(settings)


def _serve(module: str) -> Callable[[], Serve]:
    return lambda: cast("Serve", import_module(module).serve)


def _runner() -> Serve:
    from runner.guard import process_starter

    starter = process_starter.new_starter()  # imports the code of worker processes in parallel with the import below
    from runner.app import serve

    return lambda settings, state: serve(settings, state, starter)


def _admin() -> Serve:
    from admin import app
    from runner.tracing.tracer import ExecutionTracer

    async def serve(settings: AdminSettings, state: ProcessState) -> None:
        async with aclosing(ExecutionTracer()) as tracer:
            await app.serve(settings, state, tracer)

    return serve


ROLES: Final = {
    role.name: role
    for role in (
        Role("edge", EdgeSettings, "Run an edge: the HTTP process that senders reach.", _serve("edge.app")),
        Role(
            "router",
            RouterSettings,
            "Run the router: the gRPC process that owns storage.",
            _serve("router.process.app"),
        ),
        Role("runner", RunnerSettings, "Run a runner: the process that executes flows.", _runner),
        Role("admin", AdminSettings, "Run the admin process: health and metrics over HTTP.", _admin),
    )
}
