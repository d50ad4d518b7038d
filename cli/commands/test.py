"""`flowhook test`: runs flows with the events of their tests, without a cluster, and compares what comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from typer import Argument

from cli.options import Json, read_settings
from flowhook.errors import InvalidError

if TYPE_CHECKING:
    from cli.flow_files import FlowFile
    from flowhook.document import FlowDocument
    from flowhook.process.settings import RunnerSettings


def command(
    *,
    files: Annotated[
        list[Path] | None, Argument(metavar="FILES...", help="Flow files, or directories of them.")
    ] = None,
    json: Json = False,
) -> None:
    """Run flows with the events in tests/FLOW/*.json beside their files, and compare the outputs; calls are made."""
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
            f"no tests: a test of {flows[0].name} is a file {_folder(flows[0])}/NAME.json", reason="NO_TESTS"
        )
    if any(problems for _, _, problems in results):
        raise typer.Exit(1)


def _folder(flow: FlowFile) -> Path:
    return Path(flow.name).parent / "tests" / flow.document.id


def _run_tests(flow: FlowFile, settings: RunnerSettings) -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(_folder(flow).glob("*.json")):
        try:
            yield path, asyncio.run(_run(flow.document, path.read_bytes(), settings))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, typer.BadParameter) as error:
            yield path, [f"not a test: {error!r}"]


async def _run(document: FlowDocument, content: bytes, settings: RunnerSettings) -> list[str]:
    """Run a flow with the event of a test, and return the differences to what that expects."""
    from cli.commands.exec import SentRequest, secrets_of, start_event
    from flowhook.json import verbatim
    from flowhook.providers.sample_files import read_sample
    from operations.comparison.json_diff import find_differences
    from runner.local_run import run_document

    test = orjson.loads(content)
    sample = read_sample("test", test)
    request = SentRequest(sample.body.encode(), sample.content_type, sample.headers, ())
    secrets = secrets_of(document.workflow.use.secrets, {})
    ended = await run_document(document, start_event(document, request), settings, secrets, skip_waits=True)
    outcome: dict[str, Any] = {}
    wanted = {name: test[name] for name in ("output", "error") if name in test} or {"output": test["output"]}
    if ended.error is None:
        outcome["output"] = orjson.loads(ended.output or b"null")
    else:
        members = ended.error.as_dict(document.execution.error_types)
        outcome["error"] = {name: each for name, each in members.items() if name in wanted.get("error", members)}
    wanted_json, found_json = (verbatim.loads(orjson.dumps(each)) for each in (wanted, outcome))
    return [
        f"{each.path}: expected {each.first or 'nothing'}, but it is {each.second or 'not there'}"
        for each in find_differences(wanted_json, found_json)
    ]
