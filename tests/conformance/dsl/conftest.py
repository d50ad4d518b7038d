"""Runs a document as its author wrote it: loaded, compiled, interpreted, and its calls made over real sockets."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import orjson
import pytest
from support.outside import outside_world

from flowhook.document.loader import parse
from flowhook.model import JournalEntry
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from runner.component_names import component_names
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import EffectResult, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.errors import ERROR_TYPE_BASE
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program
from runner.interpreter.subscribe_task import SUBSCRIBE
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor
from runner.worker.standalone import LocalClock, LocalEvents, run_to_end

SWAGGER = {
    "swagger": "2.0",
    "paths": {
        "/pets": {
            "get": {
                "operationId": "findPetsByStatus",
                "parameters": [{"name": "status", "in": "query", "required": True, "type": "string"}],
            }
        },
        "/pets/{petId}": {
            "get": {
                "operationId": "getPetById",
                "parameters": [{"name": "petId", "in": "path", "required": True, "type": "integer"}],
            }
        },
    },
}

HEAD = "document: {dsl: 1.0.3, namespace: default, name: conformance, version: 1.0.0}\n"


@dataclass(frozen=True)
class EndedWorkflow:
    """How a workflow ended."""

    step: WorkflowCompleted | WorkflowFaulted

    @property
    def output(self) -> Any:
        assert isinstance(self.step, WorkflowCompleted), self.step
        return orjson.loads(self.step.output)

    @property
    def error(self) -> dict[str, Any]:
        assert isinstance(self.step, WorkflowFaulted), self.step
        return self.step.error.as_dict()

    @property
    def fault(self) -> tuple[str, int, str]:
        """The error's standard type without its base, its status and its instance."""
        error = self.error
        return error["type"].removeprefix(ERROR_TYPE_BASE), error["status"], error["instance"]


@pytest.fixture
async def perform():
    """Perform an effect of an execution."""
    settings = RunnerSettings(http_timeout=60.0, allow_private_addresses=True, allow_processes=True)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        caller = EffectExecutor(components(), http, settings, shared)

        async def no_secret(name):
            raise AssertionError(name)

        yield lambda effect: caller.perform("evt_1", effect, no_secret)


def compiled(text, data, secrets=None, clock=lambda: time.time_ns() // 1_000_000):
    """Return program and workflow of a document, whose head may be left out."""
    source = text if re.search(r"^document:", text, re.MULTILINE) else HEAD + text
    document = parse(source.encode(), functions=component_names())
    workflow = ExecutionContext("evt_1", document.definition, data, 1_700_000_000_000, clock, secrets or {})
    return compile_program(document.definition, Evaluator()), workflow


def run_of(program, workflow, journal=()):
    return ExecutionMachine(program, workflow, journal, chance=lambda: 0.0)  # the default retry waits a random time


@pytest.fixture
def run(perform):
    """Run a document to its end: `await run(text, input, secrets=…)`."""

    async def no_rest():
        pass

    async def execute(text, data=None, *, secrets=None):
        program = run_of(*compiled(text, data, secrets))
        ended = run_to_end(
            program, perform, no_rest, clock=LocalClock(), events=LocalEvents(()), on_wait=lambda _waiting: None
        )
        return EndedWorkflow(await ended)

    return execute


@pytest.fixture
def play(perform):
    """Run a document as a cluster does: `await play(text, input, events=…, flows=…)`.

    When it waits, the first of `events` (CloudEvents) comes that is of a type which it waits for; `flows` are documents
    by ID that it may run. Events that it emits are put into `play.emitted`.
    """

    async def execute(text, data=None, *, events=(), flows=None):
        retained, ended = list(events), {}

        async def act(effect):
            if effect.function == "emit":
                execute.emitted.append(effect.arguments["event"])
                return EffectResult(b"{}")
            if effect.function != "run.workflow":
                return await perform(effect)
            child = await execute((flows or {})[effect.arguments["flow"]], effect.arguments["input"], flows=flows)
            ended[f"evt_{len(ended)}"] = child.step
            return EffectResult(orjson.dumps({"execution": list(ended)[-1]}))

        def comes(subscriptions):
            for subscription in subscriptions:
                if subscription.execution_id:
                    step = ended[subscription.execution_id]
                    failed = isinstance(step, WorkflowFaulted)
                    return JournalEntry(
                        subscription.key, None if failed else step.output, step.error if failed else None
                    )
                types = {each.type for each in subscription.filters}
                for event in retained:
                    if "" in types or event["type"] in types:
                        retained.remove(event)
                        return JournalEntry(subscription.key, orjson.dumps(event))
            raise AssertionError(f"{subscriptions} are waited for, and there is {retained}")

        return EndedWorkflow(await drive(*compiled(text, data), act, comes))

    execute.emitted = []
    return execute


async def drive(program, workflow, act, comes):
    """Run to the end, in one attempt after the other; what comes is written into the journal, as a router does."""
    journal = []
    while True:
        run, waiting = run_of(program, workflow, tuple(journal)), []
        turn = run.advance()
        while turn.ending is None:
            journal += [write.entry for write in turn.writes]
            waiting += turn.perform
            if waiting:
                effect = waiting.pop(0)
                turn = run.resume(effect, await act(effect))
            elif turn.subscriptions:
                journal.append(comes(turn.subscriptions))
                break
            else:
                turn = run.advance()
        else:
            return turn.ending


MESSAGE = {"correlationId": 1, "payload": {"from": {"firstName": "Ann", "lastName": "Doe"}}}
MESSAGES = 7  # that a broker has
ANSWER = {"id": 1, "content": {"homeworld": "https://swapi.example/api/planets/1/"}, "statusCode": 200, "headers": {}}


class MadeUpWorld:
    """What is outside of a document that is rehearsed: it answers calls, has events and messages, and runs flows."""

    def __init__(self, events):
        self._expected, self._made_up = list(events), not events
        self._ids, self._messages = count(1), 0

    async def act(self, effect):
        answer = ANSWER
        if effect.function == "run.workflow":
            answer = {"execution": "evt_2"}
        elif effect.function == SUBSCRIBE:
            answer = self._received(effect.arguments["subscription"])
        return EffectResult(orjson.dumps(answer))

    def _received(self, subscription):
        if subscription["release"] or not subscription["seconds"]:  # acknowledges only
            return {"token": None, "ended": False, "message": None}
        if self._messages == MESSAGES and subscription["until_ms"] is None:
            raise StopAsyncIteration
        ended = self._messages == MESSAGES
        self._messages += not ended
        return {"token": {"number": self._messages}, "ended": ended, "message": None if ended else MESSAGE}

    def comes(self, subscriptions):
        for subscription in subscriptions:
            if subscription.execution_id:
                return JournalEntry(subscription.key, b"{}")
        if not (self._expected or self._made_up):
            raise StopAsyncIteration
        for subscription in subscriptions:
            types = [each.type for each in subscription.filters]
            event = self._expected[0] if self._expected else {"type": types[0] or "any", "data": {}}
            if "" in types or event["type"] in types:
                del self._expected[:1]
                event = {"specversion": "1.0", "id": str(next(self._ids)), "source": "/test", **event}
                return JournalEntry(subscription.key, orjson.dumps(event))
        raise AssertionError(f"{subscriptions} are waited for, and there is {self._expected}")


@pytest.fixture
def rehearse():
    """Run a document with calls that all have `ANSWER`: `await rehearse(text, input, events=…)`.

    Each look at the clock shows another minute. The events come in their order where they are waited for; without any,
    they are made up. A broker has `MESSAGES` messages. Returns None if the document waits for another event or message
    after the last.
    """

    async def execute(text, data, *, events=()):
        world = MadeUpWorld(events)
        clock = partial(next, count(1_700_000_000_000, 60_000))
        program, workflow = compiled(text, data, {"mySecret": {}}, clock)
        try:
            return EndedWorkflow(await drive(program, workflow, world.act, world.comes))
        except StopAsyncIteration:
            return None

    return execute


@pytest.fixture
async def pets():
    """A shop: `/pets/{id}` and `/pets?status=…`, which `/swagger.json` describes, `/echo`, `/status/{code}`.

    `/login/ann/secret` wants these two as Basic credentials.
    """

    def answer(received):
        path, _, query = received.path.partition("?")
        match path.strip("/").split("/"):
            case ["swagger.json"]:
                return 200, SWAGGER
            case ["pets"]:
                return 200, [{"id": 7, "name": "milou", "status": query.removeprefix("status=")}]
            case ["pets", number] if number.isdecimal():
                return 200, {"id": int(number), "name": "milou", "status": "available"}
            case ["echo", *_]:
                return 200, {"path": received.path, "headers": received.headers, "body": received.body.decode()}
            case ["login", "ann", "secret"]:
                return 200 if received.headers.get("Authorization") == "Basic YW5uOnNlY3JldA==" else 401, {}
            case ["status", code]:
                return int(code), {"status": int(code)}
        return 404, {}

    async with outside_world(answer) as outside:
        yield outside
