"""The kinds of processes: their settings, and the code that runs them, which is imported on demand."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
    modules: Sequence[str]  # its code
    # see `load`; returns what serves until a process is stopped, by default the function `serve` of the first module
    load_serve: Callable[[bool], Serve] | None = None

    def preload(self) -> None:
        """Import all code that such a process may need, so that it can be forked from this one."""
        modules = ["flowhook.process.lifecycle", "uvloop", *self.modules]
        for name in modules:
            with suppress(Exception):  # the process itself will say what is wrong; uvloop is not there on every system
                modules += getattr(import_module(name), "LATE_IMPORTS", ())

    def load(self, *, forked: bool = False) -> Callable[[Any], int]:
        """Import its code, and return a function that runs a process to its end and returns the exit code.

        `forked`: whether this process was forked from one with all code, and has one thread.
        """
        serve = import_module(self.modules[0]).serve if self.load_serve is None else self.load_serve(forked)
        from flowhook.process import lifecycle

        return lambda settings: lifecycle.run(partial(serve, settings), settings, self.name)

    def run(self, settings: Any) -> int:
        return self.load()(settings)


def _runner(forked: bool) -> Serve:  # noqa: FBT001 - its only argument
    from runner.guard import process_starter

    # a new interpreter imports the code of worker processes in parallel with the import below
    server = import_module("runner.worker.fork_server").serve if forked else None
    starter = process_starter.new_starter(server)
    from runner.app import serve

    return lambda settings, state: serve(settings, state, starter)


def _admin(_: bool) -> Serve:  # noqa: FBT001 - its only argument
    from admin import app
    from runner.tracing.tracer import ExecutionTracer

    async def serve(settings: AdminSettings, state: ProcessState) -> None:
        async with aclosing(ExecutionTracer()) as tracer:
            await app.serve(settings, state, tracer)

    return serve


ROLES: Final = {
    role.name: role
    for role in (
        Role("edge", EdgeSettings, "Run an edge: the HTTP process that senders reach.", ("edge.app",)),
        Role("router", RouterSettings, "Run the router: the gRPC process that owns storage.", ("router.process.app",)),
        Role(
            "runner",
            RunnerSettings,
            "Run a runner: the process that executes flows.",
            ("runner.worker.fork_server", "runner.app"),
            _runner,
        ),
        Role(
            "admin",
            AdminSettings,
            "Run the admin process: health and metrics over HTTP.",
            ("admin.app", "runner.tracing.tracer"),
            _admin,
        ),
    )
}
