"""`flowhook check`, `apply`, `test`: checks flow files, creates and updates flows, and runs them with test events."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli.options import DataDir, Json, Router, read_settings
from flowhook.errors import InvalidError

if TYPE_CHECKING:
    from cli.flow_files import FlowFile
    from flowhook.client import AppliedFlow
    from flowhook.errors import Fault
    from flowhook.process.settings import RunnerSettings


def check(
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


def apply(
    *,
    files: Annotated[
        list[Path], Option("--file", "-f", metavar="FILE_OR_DIR", help="A flow file, or a directory of them.")
    ],
    dry_run: Annotated[bool, Option("--dry-run", help="Check and compare only.")] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Create or update flows; problems are reported with file, line and key, and then nothing is changed.

    More than 1000 files are applied in parts.
    """
    from cli import flow_files
    from cli.client_factory import open_client
    from flowhook.errors import InvalidFlowError

    try:
        flows = flow_files.read_flow_files(files)
    except InvalidFlowError as error:
        flow_files.print_problems(error.faults, json=json)
        raise typer.Exit(1) from None
    progress, left = flow_files.Progress("applied", len(flows)), 0
    with open_client(router, data_dir) as client:
        for part in flow_files.parts([flow.content for flow in flows]):
            chosen = flows[part]
            try:
                with flow_files.named_files([flow.name for flow in chosen]):
                    applied = client.flows.apply([flow.content for flow in chosen], dry_run=dry_run)
            except InvalidFlowError as error:
                flow_files.print_problems(error.faults, json=json)
                left += len(chosen)
                continue
            for flow, result in zip(chosen, applied, strict=True):
                _show(flow, result, dry_run=dry_run, json=json)
            progress.advance(len(chosen))
    if left:
        if left < len(flows):
            print(f"flowhook: {left} of {len(flows)} files are not applied, the others are", file=sys.stderr)
        raise typer.Exit(1)


def _show(flow: FlowFile, result: AppliedFlow, *, dry_run: bool, json: bool) -> None:
    from cli.flow_files import format_warning
    from cli.output import print_json

    if json:
        shown: dict[str, Any] = {
            "id": result.flow.id,
            "change": str(result.change),
            "revision": result.flow.revision,
            "file": flow.name,
            "warnings": list(result.warnings),
        }
        print_json({**shown, "dry_run": True} if dry_run else shown)
        return
    print(f"{result.flow.id}: {result.change}{' (dry run)' if dry_run else ''}")
    for warning in result.located_warnings:
        print(format_warning(replace(warning, file=flow.name)), file=sys.stderr)


def test(
    *,
    files: Annotated[
        list[Path] | None, Argument(metavar="FILES...", help="Flow files, or directories of them.")
    ] = None,  # noqa: PT028 - it is a command
    json: Json = False,  # noqa: PT028
) -> None:
    """Run flows with the events in tests/FLOW/*.json beside their files, and compare the outputs."""
    from cli import flow_files
    from cli.output import print_json
    from flowhook.process.settings import RunnerSettings

    settings = read_settings(RunnerSettings, {"allow_loopback_addresses": True})
    flows = flow_files.read_flow_files(files or [Path()])
    results = [(flow, case, problems) for flow in flows for case, problems in _run_tests(flow, settings)]
    for flow, case, problems in results:
        if json:
            print_json({"flow": flow.document.id, "test": str(case), "passed": not problems, "problems": problems})
        else:
            print(f"{'FAILED' if problems else 'passed'}  {case}", *(f"  {problem}" for problem in problems), sep="\n")
    if not results:
        raise InvalidError(
            f"no tests: a test of {flows[0].name} is a file {_folder(flows[0])}/NAME.json, such as"
            ' {"body": {}, "calls": [], "output": {}}',
            reason="NO_TESTS",
        )
    if any(problems for _, _, problems in results):
        raise typer.Exit(1)


def _folder(flow: FlowFile) -> Path:
    return Path(flow.name).parent / "tests" / flow.document.id


def _run_tests(flow: FlowFile, settings: RunnerSettings) -> Iterator[tuple[Path, list[str]]]:
    from cli.flow_tests import run_test

    for path in sorted(_folder(flow).glob("*.json")):
        try:
            yield path, asyncio.run(run_test(flow.document, path.read_bytes(), settings))
        except OSError as error:
            yield path, [f"not a test: {error}"]
