"""Runs a document as its author wrote it: loaded, compiled, interpreted, and its calls made over real sockets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from support.outside import outside_world

from flowhook.config import RunnerSettings
from flowhook.document import parse
from runner.calls import Caller
from runner.components.registry import component_names, components
from runner.components.shared import Shared
from runner.evaluator import Evaluator
from runner.interpreter.effects import Completed, Faulted
from runner.interpreter.errors import ERROR_TYPE_BASE
from runner.interpreter.program import compile_program
from runner.interpreter.run import Run
from runner.interpreter.scope import Workflow
from runner.outbound import HttpClient
from runner.worker.single import finish

HEAD = "document: {dsl: 1.0.3, namespace: default, name: conformance, version: 1.0.0}\n"


@dataclass(frozen=True)
class Ended:
    """How a workflow ended."""

    step: Completed | Faulted

    @property
    def output(self) -> Any:
        assert isinstance(self.step, Completed), self.step
        return orjson.loads(self.step.output)

    @property
    def error(self) -> dict[str, Any]:
        assert isinstance(self.step, Faulted), self.step
        return self.step.error.as_dict()

    @property
    def fault(self) -> tuple[str, int, str]:
        """The error's standard type without its base, its status and its instance."""
        error = self.error
        return error["type"].removeprefix(ERROR_TYPE_BASE), error["status"], error["instance"]


@pytest.fixture
async def run():
    """Run a document to its end: `await run(text, input, secrets=…)`; the head may be left out."""
    evaluator = Evaluator()
    settings = RunnerSettings(http_timeout=5.0)
    async with HttpClient(allow_private_addresses=True) as http, Shared(settings) as shared:
        caller = Caller(components(), http, settings, shared)

        async def no_secret(name):
            raise AssertionError(name)

        async def no_rest():
            pass

        async def execute(text, data=None, *, secrets=None):
            source = text if text.startswith("document:") else HEAD + text
            document = parse(source.encode(), functions=component_names())
            program = compile_program(document.definition, evaluator)
            workflow = Workflow(
                "evt_1",
                document.definition,
                data,
                1_700_000_000_000,
                lambda: time.time_ns() // 1_000_000,
                secrets or {},
            )
            execution = Run(program, workflow, chance=lambda: 0.0)  # the default retry waits a random time
            return Ended(await finish(execution, lambda effect: caller.perform("evt_1", effect, no_secret), no_rest))

        yield execute


@pytest.fixture
async def pets():
    """A shop of pets: `/pets/{id}`, `/pets?status=…`, `/login/{user}/{password}` behind Basic, `/echo`."""

    def answer(received):
        path, _, query = received.path.partition("?")
        match path.strip("/").split("/"):
            case ["pets"]:
                return 200, [{"id": 7, "name": "milou", "status": query.removeprefix("status=")}]
            case ["pets", number] if number.isdecimal():
                return 200, {"id": int(number), "name": "milou", "status": "available"}
            case ["echo", *_]:
                return 200, {"path": received.path, "headers": received.headers, "body": received.body.decode()}
            case ["status", code]:
                return int(code), {"status": int(code)}
        return 404, {}

    async with outside_world(answer) as outside:
        yield outside
