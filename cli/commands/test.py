"""`flowhook test`: runs flows with the events of their tests, without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument

from cli.options import Json, read_settings
from flowhook.errors import InvalidError

if TYPE_CHECKING:
    from cli.flow_files import FlowFile
    from flowhook.process.settings import RunnerSettings


def command(
    *,
    files: Annotated[
        list[Path] | None, Argument(metavar="FILES...", help="Flow files, or directories of them.")
    ] = None,
    json: Json = False,
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
