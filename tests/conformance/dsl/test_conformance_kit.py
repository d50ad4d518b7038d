"""The scenarios of the specification's conformance kit, executed as `flowhook exec` executes a document.

One case for each of the kit's 21 scenarios: what its document does, in our own words, with the input as it is given and
nothing added to it. What each task means beyond that is told in the files beside this one. Where there is a copy of the
specification (`support.specification`), its scenarios are executed as published, but for the hosts that they call.
docs/conformance.md has the result (tests/unit/docs/test_conformance_page.py).

Source: github.com/open-workflow-specification/specification, `ctk/features/`, as of 2026-07-29 (4d42471).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from support.specification import needs_copy, scenarios

from flowhook.document.diagnostics.source import read
from flowhook.document.loader import parse
from flowhook.model import Event
from flowhook.process.settings import RunnerSettings
from flowhook.wire.convert import event_to_bytes
from runner import ipc
from runner.component_names import component_names
from runner.guard.evaluation_record import EvaluationRecord
from runner.worker.standalone import execute

HEAD = "document: {dsl: 1.0.3, namespace: default, name: kit, version: 1.0.0}\n"
OF_THE_KIT = "https://open-workflow-specification.org/dsl/errors/types/communication"
"""How the kit spells the type of an error that dsl-reference.md has another base for."""

SEEN = "{set: {seen: '${ .seen + [\"%s\"] }'}%s}"


def see(name, more=""):
    """Return a task that adds its name to `.seen`."""
    return f"{{{name}: {SEEN % (name, more)}}}"


@dataclass(frozen=True)
class Scenario:
    """A document, its input (None: none is given), and what the kit asks of its end.

    Attributes:
        ran: names of the tasks in the order in which they end; None: any.
        error: members that the fault has; None: it completes.
        has: paths that the output has.
    """

    document: str
    input: Any
    output: Any = ...
    ran: list[str] | None = None
    error: dict[str, Any] | None = None
    has: tuple[str, ...] = ()


@dataclass
class TraceCollector:
    """What a child tells its parent: the tasks, in the order in which they ended."""

    tasks: list[dict[str, Any]] = field(default_factory=list)

    def send(self, message):
        if isinstance(message, ipc.TaskTraced):
            self.tasks.append(orjson.loads(message.entry))

    async def flush(self):
        pass


@dataclass(frozen=True)
class KitResult:
    output: Any
    error: dict[str, Any] | None
    ran: list[str]


@pytest.fixture
async def execute_document(pets):
    """Execute a document for an input as `exec` does: `await execute_document(text, input)`."""
    record = EvaluationRecord()

    async def run(text, data):
        whole = text if text.startswith("document:") else HEAD + text
        document = parse(whole.replace("SHOP", pets.url).encode(), functions=component_names())
        body = b"" if data is None else orjson.dumps(data)
        event = Event("evt_1", document.id, 1_700_000_000_000, None, "", "POST", "", "", "application/json", (), body)
        reported = TraceCollector()
        ended = await execute(
            ipc.RunDocument(
                settings=RunnerSettings(allow_private_addresses=True, http_timeout=60.0),
                definition=orjson.dumps(document.definition),
                event=event_to_bytes(event),
                secrets={},
                trace=True,
            ),
            record,
            reported,
        )
        output = None if ended.output is None else orjson.loads(ended.output)
        return KitResult(output, ended.error and ended.error.as_dict(), [task["name"] for task in reported.tasks])

    yield run
    record.close()


SWITCH = """
do:
  - choose:
      switch:
        - first: {when: '.color == "red"', then: red}
        - second: {when: '.color == "green"', then: green}
%s
  - red: {set: {seen: '${ .seen + ["red"] }'}, then: end}
  - green: {set: {seen: '${ .seen + ["green"] }'}, then: end}
  - other: {set: {seen: '${ .seen + [$input.color] }'}}
"""

TRY = """
do:
  - attempt:
      try:
        - ask: {call: http, with: {method: get, endpoint: 'SHOP/no-such/{name}'}}
      catch:
        errors: {with: {type: %s, status: %d}}
        as: problem
        do: [{keep: {set: {problem: '${ $problem }'}}}]
"""

GET = "{call: http, with: {method: get, endpoint: {uri: 'SHOP/pets/{petId}'}%s}%s}"
OPENAPI = "{call: openapi, with: {document: {endpoint: SHOP/swagger.json}, operationId: %s, parameters: %s%s}%s}"
RESPONSE = ("request.method", "request.uri", "request.headers", "headers", "statusCode", "content.id", "content.name")

SCENARIOS = {
    "fork: branches that compete": Scenario(
        "do: [{race: {fork: {compete: true, branches: [" + ", ".join(map(see, "abc")) + "]}}}]",
        None,
        has=("seen",),
    ),
    "call: http gives the content": Scenario(
        "do: [{find: {call: http, with: {method: get, endpoint: {uri: 'SHOP/pets?status={status}'}},"
        " output: {as: '.[0]'}}}]",
        {"status": "sold"},
        {"id": 7, "name": "milou", "status": "sold"},
    ),
    "call: http gives the response": Scenario(
        f"do: [{{get: {GET % (', output: response', '')}}}]", {"petId": 1}, has=RESPONSE
    ),
    "call: http with basic authentication": Scenario(
        "do: [{login: {call: http, with: {method: get, endpoint: {uri: 'SHOP/login/{username}/{password}',"
        " authentication: {basic: {username: '${ .username }', password: '${ .password }'}}}}}}]",
        {"username": "ann", "password": "secret"},
        {},
    ),
    "call: openapi gives the content": Scenario(
        "do: [{find: "
        + OPENAPI % ("findPetsByStatus", "{status: '${ .status }'}", "", ", output: {as: . | length}")
        + "}]",
        {"status": "available"},
        1,
    ),
    "call: openapi gives the response": Scenario(
        "do: [{get: " + OPENAPI % ("getPetById", "{petId: '${ .petId }'}", ", output: response", "") + "}]",
        {"petId": 1},
        has=RESPONSE,
    ),
    "data flow: an input is filtered": Scenario(
        "do: [{keep: {input: {from: .user.claims.subject}, set: {player: '${ . }'}}}]",
        {"user": {"claims": {"subject": "6Asn"}}},
        {"player": "6Asn"},
    ),
    "data flow: an output is filtered": Scenario(
        f"do: [{{get: {GET % ('', ', output: {as: .id}')}}}]", {"petId": 1}, 1
    ),
    "data flow: an output that is no object": Scenario(
        f"do: [{{one: {GET % ('', ', output: {as: .id}')}}}, "
        "{two: {call: http, with: {method: get, endpoint: {uri: SHOP/pets/2}}, output: {as: '{ids: [$input, .id]}'}}}]",
        {"petId": 1},
        {"ids": [1, 2]},
    ),
    "do: tasks one after another": Scenario(
        "do: [{all: {do: [" + ", ".join(map(see, "abc")) + "]}}]", None, {"seen": ["a", "b", "c"]}
    ),
    "emit: the event is the output": Scenario(
        "do: [{tell: {emit: {event: {with: {source: https://shop.example, type: org.example.greeted, data: "
        "{text: '${ \"Hello \\(.user.first) \\(.user.last)!\" }'}}}}}}]",
        {"user": {"first": "Ann", "last": "Doe"}},
        has=("id", "specversion", "time", "source", "type", "data"),
    ),
    "flow: in the order they stand in": Scenario(
        "do: [" + ", ".join(map(see, "abc")) + "]", None, {"seen": ["a", "b", "c"]}, ["a", "b", "c"]
    ),
    "flow: in the order that `then` says": Scenario(
        "do: [" + ", ".join([see("a", ", then: c"), see("b", ", then: end"), see("c", ", then: b")]) + "]",
        None,
        {"seen": ["a", "c", "b"]},
        ["a", "c", "b"],
    ),
    "for: each item and its index": Scenario(
        "do: [{loop: {for: {each: color, in: .colors}, do: [{mark: {set: {done: "
        "'${ {colors: (.done.colors + [$color]), indexes: (.done.indexes + [$index])} }'}}}]}}]",
        {"colors": ["red", "green"]},
        {"done": {"colors": ["red", "green"], "indexes": [0, 1]}},
    ),
    "raise: an error written out": Scenario(
        "do: [{stop: {raise: {error: {status: 400, type: https://errors.example/compliance, title: Compliance}}}}]",
        None,
        error={
            "status": 400,
            "type": "https://errors.example/compliance",
            "title": "Compliance",
            "instance": "/do/0/stop",
        },
    ),
    "set: data of expressions": Scenario(
        "do: [{shape: {set: {shape: circle, size: '${ .conf.size }', fill: '${ .conf.fill }'}}}]",
        {"conf": {"size": {"width": 6}, "fill": {"red": 69}}},
        {"shape": "circle", "size": {"width": 6}, "fill": {"red": 69}},
    ),
    "switch: a case matches": Scenario(SWITCH % "", {"color": "red"}, {"seen": ["red"]}, ["choose", "red"]),
    "switch: no case matches, and `then` ends": Scenario(
        SWITCH % "      then: end", {"color": "blue"}, {"color": "blue"}, ["choose"]
    ),
    "switch: the case without `when`": Scenario(
        SWITCH % "        - rest: {then: other}", {"color": "blue"}, {"seen": ["blue"]}, ["choose", "other"]
    ),
    "try: a caught error, under the type of the kit": Scenario(
        TRY % (OF_THE_KIT, 404),
        {"name": "rex"},
        has=("problem.type", "problem.status", "problem.title", "problem.instance"),
    ),
    "try: an error that is not caught": Scenario(TRY % (OF_THE_KIT, 503), {"name": "rex"}, error={"status": 404}),
}


def found(output, path):
    """Return whether there is something at a dotted path."""
    for key in path.split("."):
        if not isinstance(output, dict) or key not in output:
            return False
        output = output[key]
    return True


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_of_the_kit(execute_document, name):
    scenario = SCENARIOS[name]
    ended = await execute_document(scenario.document, scenario.input)
    if scenario.error is not None:
        assert ended.error is not None
        assert {key: ended.error[key] for key in scenario.error} == scenario.error
        return
    assert ended.error is None
    assert [path for path in scenario.has if not found(ended.output, path)] == []
    if scenario.output is not ...:
        assert ended.output == scenario.output
    if scenario.ran is not None:
        assert ended.ran == scenario.ran


async def test_what_the_kit_asks_of_values_within_an_output(execute_document):
    async def output(name):
        return (await execute_document(SCENARIOS[name].document, SCENARIOS[name].input)).output

    assert len((await output("fork: branches that compete"))["seen"]) == 1
    reported = await output("emit: the event is the output")
    assert (reported["source"], reported["type"]) == ("https://shop.example", "org.example.greeted")
    assert reported["data"] == {"text": "Hello Ann Doe!"}
    caught = await output("try: a caught error, under the type of the kit")
    assert caught["problem"]["instance"] == "/do/0/attempt/try/0/ask"


def test_there_is_a_case_for_each_scenario_of_the_kit():
    assert len(SCENARIOS) == 21


HOSTS = {
    "https://petstore.swagger.io/v2/pet/findByStatus": "SHOP/pets",
    "https://petstore.swagger.io/v2/pet/": "SHOP/pets/",
    "https://petstore.swagger.io/v2/": "SHOP/",
    "https://httpbin.org/basic-auth/{username}/{password}": "SHOP/login/ann/secret",
    "username: serverless-workflow": "username: ann",
    "password: conformance-test": "password: secret",
}
"""What stands in for the hosts that the scenarios call, and for the credentials of one of them."""


def replaced(text):
    for published_, ours in HOSTS.items():
        text = text.replace(published_, ours)
    return text


def judge(line, block, ended):
    """Assert what a step says of how a workflow ended."""
    quoted = re.findall(r"'([^']*)'", line)
    if "should fault" in line:
        assert ended.error is not None
        expected = read(block.encode()).data or {}
        assert {key: ended.error[key] for key in expected} == expected
    elif "workflow should complete" in line:
        assert ended.error is None
        assert not block or ended.output == read(block.encode()).data
    elif "should have properties" in line:
        assert [path for path in quoted if not found(ended.output, path)] == []
    elif "property with value" in line:
        value = ended.output
        for key in quoted[0].split("."):
            value = value[key]
        assert value == read(block.encode()).data
    elif items := re.search(r"containing (\d+) items", line):
        assert len(ended.output[quoted[0]]) == int(items[1])
    elif order := re.fullmatch(r"And (\w+) should run (first|last)", line):
        assert ended.ran[0 if order[2] == "first" else -1] == order[1]
    elif order := re.fullmatch(r"And (\w+) should run after (\w+)", line):
        assert ended.ran.index(order[1]) > ended.ran.index(order[2])
    else:
        raise AssertionError(f"a step of another kind: {line}")


@needs_copy
async def test_the_scenarios_of_the_kit_as_published(execute_document):
    published = list(scenarios())
    named = Counter(name.partition(":")[0] for name in SCENARIOS)
    assert Counter("fork" if feature == "branch" else feature for feature, _, _ in published) == Counter(
        {name.replace(" ", "-"): times for name, times in named.items()}
    )
    for _, title, steps in published:
        (document,) = [block for line, block in steps if "workflow with definition" in line]
        given = [read(replaced(block).encode()).data for line, block in steps if "workflow input is" in line]
        ended = await execute_document(replaced(document), given[0] if given else None)
        for line, block in steps:
            if line.startswith("Then") or ("should" in line and line.startswith("And")):
                try:
                    judge(line, block, ended)
                except AssertionError as problem:
                    raise AssertionError(f"{title}: {line}: {ended}") from problem
