"""`flowhook edge|router|runner|admin`: one process each, for systemd or Kubernetes."""

from __future__ import annotations

import typer

from cli.options import command_of
from flowhook.config import AdminSettings, EdgeSettings, RouterSettings, RunnerSettings

PANEL = "Processes"


def register(app: typer.Typer) -> None:
    """Add the four commands, with an option for each of their settings."""
    for name, command in (
        ("edge", command_of(EdgeSettings, _edge, help_text="Run an edge: the HTTP process that senders reach.")),
        (
            "router",
            command_of(RouterSettings, _router, help_text="Run the router: the gRPC process that owns storage."),
        ),
        ("runner", command_of(RunnerSettings, _runner, help_text="Run a runner: the process that executes flows.")),
        ("admin", command_of(AdminSettings, _admin, help_text="Run the admin process: health and metrics over HTTP.")),
    ):
        app.command(name, rich_help_panel=PANEL)(command)


def _edge(settings: EdgeSettings) -> int:
    from edge import app
    from flowhook import process

    return process.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "edge")


def _router(settings: RouterSettings) -> int:
    from flowhook import process
    from router import app

    return process.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "router")


def _runner(settings: RunnerSettings) -> int:
    from flowhook import process
    from runner import app

    return process.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "runner")


def _admin(settings: AdminSettings) -> int:
    from admin import app
    from flowhook import process

    return process.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "admin")
