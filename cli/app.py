"""The command tree of `flowhook`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer
from typer import Option

import flowhook

ROLES: Final = ("edge", "router", "runner", "admin")
COMMANDS: Final = (
    *("dev", "up", "new", "check", "apply", "exec", "test", "schema", "send", "trigger", "verify", "diff", "tail"),
    *("overview", "flows", "secrets", "executions", "jobs", "incidents", "requests", "rejections", "cluster", "audit"),
    *("tokens", "components", "backup", "restore", "migrate", *ROLES),
)
# modules of `cli.commands` that have several commands, each by its name; others have one, and its name
_MODULES: Final = {
    **dict.fromkeys(("audit", "incidents", "rejections", "requests"), "logs"),
    **dict.fromkeys(("apply", "test"), "check"),
    **dict.fromkeys(("diff", "tail"), "executions"),
    **dict.fromkeys(("restore", "migrate"), "backup"),
    "dev": "up",
    "overview": "flows",
    "schema": "components",
    "trigger": "send",
}


def create(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the application: with the command that arguments begin with, else with all commands.

    Importing all takes 0.3 s of CPU time, which each process of a cluster would take.
    """
    app = typer.Typer(
        help="Receives webhooks, stores them durably, and runs flows with them.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    named = next(iter(arguments), "")
    for name in [named] if named in COMMANDS else COMMANDS:
        if name in ROLES:
            from cli import options, roles

            role = roles.ROLES[name]
            command = options.settings_command(role.settings, role.run, help_text=role.help, process=name)
            app.command(name, rich_help_panel="Processes")(command)
            continue
        module = import_module(f"cli.commands.{_MODULES.get(name, name)}")
        found = getattr(module, name, None) or getattr(module, "app", None)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        elif found is None and hasattr(module, "register"):
            module.register(app)
        else:
            app.command(name)(found or module.command)
    return app


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if value:
        print(flowhook.__version__)
        raise typer.Exit


def _options(
    *,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    reason: Annotated[
        str,
        Option(
            metavar="TEXT",
            help="Reason for the change, recorded in the router's audit log (FLOWHOOK_REASON).",
            envvar="FLOWHOOK_REASON",
        ),
    ] = "",
) -> None:
    if reason:
        from flowhook.model.audit import set_audit_reason

        set_audit_reason(reason)
