"""`flowhook edge|router|runner|admin`: runs one process in the foreground, for systemd or Kubernetes."""

from __future__ import annotations

import typer

from cli.options import settings_command
from cli.roles import ROLES


def register(app: typer.Typer) -> None:
    """Add the four commands, with an option for each of their settings."""
    for name, role in ROLES.items():
        command = settings_command(role.settings, role.run, help_text=role.help, process=name)
        app.command(name, rich_help_panel="Processes")(command)
