"""The command tree of `flowhook`."""

from __future__ import annotations

from typing import Annotated

import typer

import flowhook
from cli.commands import (
    apply,
    audit,
    check,
    cluster,
    components,
    diff,
    execute,
    executions,
    flows,
    jobs,
    migrate,
    processes,
    rejections,
    schema,
    secrets,
    send,
    tail,
    tokens,
    up,
    verify,
)


def create() -> typer.Typer:
    """Return the application with all commands."""
    app = typer.Typer(
        help="Receives webhooks, stores them durably, and runs flows with them.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    up.register(app)
    check.register(app)
    apply.register(app)
    execute.register(app)
    schema.register(app)
    send.register(app)
    verify.register(app)
    diff.register(app)
    tail.register(app)
    app.add_typer(flows.app, name="flows")
    app.add_typer(secrets.app, name="secrets")
    app.add_typer(executions.app, name="executions")
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(rejections.app, name="rejections")
    app.add_typer(cluster.app, name="cluster")
    app.add_typer(audit.app, name="audit")
    app.add_typer(tokens.app, name="tokens")
    app.add_typer(components.app, name="components")
    migrate.register(app)
    processes.register(app)
    return app


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if value:
        print(flowhook.__version__)
        raise typer.Exit


def _options(
    *,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            metavar="TEXT",
            help="Reason for the change, recorded in the router's audit log (FLOWHOOK_REASON).",
            envvar="FLOWHOOK_REASON",
        ),
    ] = "",
) -> None:
    if reason:
        from flowhook.model.audit_reason import set_audit_reason

        set_audit_reason(reason)
