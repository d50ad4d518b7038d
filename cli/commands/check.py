"""`flowhook check`: checks flow files as `apply` does, without a router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from cli.options import Json, read_settings

if TYPE_CHECKING:
    from flowhook.errors import Fault


def command(
    *,
    files: Annotated[list[Path], Argument(metavar="FILES...", help="Flow files, or directories of them.")],
    strict: Annotated[bool, Option("--strict", help="Treat warnings as errors.")] = False,
    json: Json = False,
) -> None:
    """Check flow files as apply does, without a router; problems are reported with file, line and key."""
    from cli import flow_files
    from flowhook.document.diagnostics.lint import located_warnings
    from flowhook.process.settings import RunnerSettings

    policy = read_settings(RunnerSettings, {}).address_policy  # as far as the environment says what runners may call
    warnings: list[Fault] = []
    unreached: dict[str, Fault] = {}
    flows, errors = flow_files.check_flow_files(files, unreached)
    for flow in flows:
        warnings += located_warnings(flow.document, flow.content, file=flow.name, policy=policy)
    warnings += (replace(each, cause=f"not checked: {each.cause}") for each in unreached.values())
    if strict:
        errors, warnings = [*errors, *warnings], []
    flow_files.print_problems(errors, warnings, json=json)
    if not json:
        faulty = {error.file for error in errors}
        for flow in flows:
            if flow.name not in faulty:
                print(f"{flow.name}: {flow.document.id} is fine")
    if errors:
        raise typer.Exit(1)
