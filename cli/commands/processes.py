"""`flowhook edge|router|runner|admin`: runs one process in the foreground, for systemd or Kubernetes."""

from __future__ import annotations

import typer

from cli.options import settings_command
from cli.roles import ADMIN, EDGE, ROUTER, RUNNER

PANEL = "Processes"


def register(app: typer.Typer) -> None:
    """Add the four commands, with an option for each of their settings."""
    for name, command in (
        (
            "edge",
            settings_command(
                EDGE.settings, EDGE.run, help_text="Run an edge: the HTTP process that senders reach.", process="edge"
            ),
        ),
        (
            "router",
            settings_command(
                ROUTER.settings,
                ROUTER.run,
                help_text="Run the router: the gRPC process that owns storage.",
                process="router",
            ),
        ),
        (
            "runner",
            settings_command(
                RUNNER.settings,
                RUNNER.run,
                help_text="Run a runner: the process that executes flows.",
                process="runner",
            ),
        ),
        (
            "admin",
            settings_command(
                ADMIN.settings,
                ADMIN.run,
                help_text="Run the admin process: health and metrics over HTTP.",
                process="admin",
            ),
        ),
    ):
        app.command(name, rich_help_panel=PANEL)(command)
