"""Every document among the specification's examples runs as it stands, or is refused by the name of what is missing.

Which documents these are stands in `examples.sha256` (as `sha256sum` writes it); they are judged where there is a copy
of the specification (`support.specification`): calls are answered by the tests, and events come as they are waited for.
What is refused of them is shown everywhere, by documents of our own that have the same in them.
docs/conformance.md has the result (tests/unit/docs/test_conformance_page.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.specification import examples, needs_copy

from flowhook.document.catalogs import append
from flowhook.document.loader import canonical, load_definition, parse
from flowhook.errors import InvalidFlowError

JUDGED = {
    name.removesuffix(".yaml"): digest
    for digest, name in (
        line.split("  ", 1) for line in Path(__file__).with_name("examples.sha256").read_text().splitlines()
    )
}
"""SHA-256 by stem of the file's name."""

UNSUPPORTED = "UNSUPPORTED"

REFUSED = {
    "call-grpc": ("do[0].greet.with.proto.endpoint", "URI_INVALID"),
    "run-container": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-container-cleanup-always": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-container-cleanup-eventually": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-container-stdin-and-arguments": ("do[1].runContainer.run.container", UNSUPPORTED),
    "run-container-with-name": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-container-with-pull-policy": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-return-all": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-return-code": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-return-none": ("do[0].runContainer.run.container", UNSUPPORTED),
    "run-return-stderr": ("do[0].runContainer.run.container", UNSUPPORTED),
}
"""Key and beginning of the cause; all others load."""

DOCUMENT = "{endpoint: https://docs.example.org/broker.json}"
PUBLISH = f"{{document: {DOCUMENT}, operation: announce, message: {{payload: {{order: '${{ .id }}'}}}}}}"


FOREVER = "consume: {while: '${ true }'}, foreach: {item: order, do: [{keep: {set: {order: '${ $order }'}}}]}"


def subscribe(more):
    return f"{{document: {DOCUMENT}, operation: follow, subscription: {{{more}}}}}"


OURS = {
    "call-grpc": "{call: grpc, with: {proto: {endpoint: file://orders.proto}, "
    "service: {name: Orders, host: orders.example.org}, method: Pay}}",
    "run-container": "{run: {container: {image: invoices}}}",
    "run-container-cleanup-always": "{run: {container: {image: invoices, lifetime: {cleanup: always}}}}",
    "run-container-cleanup-eventually": "{run: {container: {image: invoices, "
    "lifetime: {cleanup: eventually, after: {hours: 1}}}}}",
    "run-container-stdin-and-arguments": "{run: {container: {image: invoices, stdin: '${ .id }', arguments: [a, b]}}}",
    "run-container-with-name": "{run: {container: {image: invoices, name: '${ \"invoice-\\(.id)\" }'}}}",
    "run-container-with-pull-policy": "{run: {container: {image: invoices, pullPolicy: always}}}",
    "run-return-all": "{run: {container: {image: invoices}, return: all}}",
    "run-return-code": "{run: {container: {image: invoices}, return: code}}",
    "run-return-none": "{run: {container: {image: invoices}, return: none}}",
    "run-return-stderr": "{run: {container: {image: invoices}, return: stderr}}",
}
"""The task that refused examples are refused for, in our own words."""

BESIDE = (
    "{call: http, with: {method: post, endpoint: https://tools.example.org/, body: {method: tools/call}}}",
    "{call: tell, with: {text: paid}}",
    f"{{call: asyncapi, with: {PUBLISH}}}",
    f"{{call: asyncapi, with: {subscribe('consume: {amount: 3}')}}}",
    f"{{call: asyncapi, with: {subscribe('consume: {until: .paid, for: {seconds: 9}}')}}}",
    f"{{call: asyncapi, with: {subscribe(FOREVER)}}}",
    "{call: mcp, with: {method: tools/list, transport: {stdio: {command: tools, environment: {SHOP: '7'}}}}}",
    OURS["call-grpc"].replace("file://", "https://orders.example.org/"),
    "{run: {shell: {command: invoices, arguments: [a, b]}, return: all}}",
    "{run: {script: {language: python, code: 'print(1)'}, return: code}}",
)
"""What the causes name instead, or what differs from a refused task in nothing but what it is refused for."""


CATALOG = "https://raw.githubusercontent.com/serverlessworkflow/catalog/main/functions/log/1.0.0/function.yaml"
FUNCTION = """\
input: {schema: {document: {type: object, required: [message]}}}
run: {script: {language: python, code: 'import sys; print(sys.argv[1])', arguments: ['${ .message }']}}
"""


def published_examples():
    """Return the examples; those that call a function of a catalog contain one, as if they had been applied."""
    return {
        stem: append(text, {CATALOG: (CATALOG, FUNCTION)}) if CATALOG.encode() in text else text
        for stem, text in examples().items()
    }


def ours(task):
    """Return a document of one task."""
    head = "document: {dsl: 1.0.3, namespace: default, name: ours, version: 1.0.0}\n"
    use = "use: {functions: {tell: {set: {told: true}}}}\n"
    return f"{head}{use}do:\n  - work: {task}\n".encode()


def fault_of(text, name):
    """Return the fault that a document is refused for; it has a line."""
    with pytest.raises(InvalidFlowError) as refusal:
        parse(text, file=name, functions=set())
    (fault,) = refusal.value.faults
    assert fault.line > 0
    return fault


def test_what_is_refused_is_among_what_is_judged_and_has_a_document_of_ours():
    assert REFUSED.keys() < JUDGED.keys()
    assert OURS.keys() == REFUSED.keys()


@pytest.mark.parametrize("stem", OURS)
def test_a_document_of_ours_is_refused_for_what_the_example_is(stem):
    example_key, code = REFUSED[stem]
    fault = fault_of(ours(OURS[stem]), "ours.yaml")
    assert (fault.key, fault.code) == ("do[0].work." + example_key.split(".", 2)[2], code)


@pytest.mark.parametrize("task", BESIDE)
def test_what_lies_beside_it_loads(task):
    assert parse(ours(task), file="ours.yaml", functions=set()).definition["do"]


@needs_copy
def test_each_example_loads_or_names_what_is_not_supported():
    published = examples()
    assert {stem: sha256(text).hexdigest() for stem, text in published.items()} == JUDGED
    for stem, text in published_examples().items():
        if stem in REFUSED:
            fault = fault_of(text, stem)
            assert (fault.key, fault.code) == REFUSED[stem]
        else:
            document = parse(text, file=stem, functions=set())
            assert load_definition(canonical(document.definition)) == document


@dataclass(frozen=True)
class Rehearsal:
    """What an example is run with, and how it ends.

    Attributes:
        data: the input.
        events: data, and further attributes, of the events that come where none is made up.
        error: status of the error that it faults with; None: it completes.
        waits: whether it waits for ever, as its author wants.
    """

    data: Any = None
    events: tuple[dict[str, Any], ...] = ()
    error: int | None = None
    waits: bool = False


SEARCH, PET = {"searchQuery": "luke"}, {"petId": 7, "username": "ann", "password": "secret", "token": "t"}
WHOSE = {"userId": 1, "contact": {"firstName": "Ann", "lastName": "Doe"}}
HOT = ({"type": "com.fake-hospital.vitals.measurements.temperature", "data": {"temperature": 39}},)
FAST = ({"type": "com.fake-hospital.vitals.measurements.bpm", "data": {"bpm": 120}},)
OUT = ({"type": "com.fake-hospital.patient.checked-out", "data": {}},)

REHEARSALS = {
    "accumulate-room-readings": Rehearsal(
        events=(
            {"type": "my.home.sensors.temperature", "source": "https://my.home.com/sensor", "roomid": "1", "data": {}},
            {"type": "my.home.sensors.humidity", "source": "https://my.home.com/sensor", "roomid": "1", "data": {}},
        ),
        error=400,
    ),
    "call-asyncapi-subscribe-consume-amount": Rehearsal(WHOSE),
    "call-asyncapi-subscribe-consume-forever-foreach": Rehearsal(WHOSE, waits=True),
    "call-asyncapi-subscribe-consume-until": Rehearsal(WHOSE),
    "call-asyncapi-subscribe-consume-while": Rehearsal(WHOSE, waits=True),
    "call-http-query-headers-expressions": Rehearsal(SEARCH),
    "call-http-query-parameters": Rehearsal(SEARCH),
    "call-http-redirect": Rehearsal(SEARCH),
    "conditional-task": Rehearsal({"customer": {"age": 17}}, error=400),
    "for": Rehearsal({"pets": [{"id": 1}], "vet": "ann"}, error=400),
    "listen-to-all": Rehearsal(events=HOT + FAST),
    "listen-to-all read-envelope": Rehearsal(events=HOT + FAST),
    "listen-to-any-filter": Rehearsal(events=FAST),
    "listen-to-any-forever-foreach": Rehearsal({"roomId": 1}, HOT + FAST, waits=True),
    "listen-to-any-until-condition": Rehearsal(events=HOT * 4),
    "listen-to-any-until-consumed": Rehearsal(events=HOT + FAST + OUT),
    "mock-service-extension": Rehearsal(error=400),
    "raise-inline": Rehearsal(error=500),
    "raise-reusable": Rehearsal(error=500),
    "schedule-event-driven": Rehearsal([{"patient": {"id": 1}}]),
    "set": Rehearsal([{"n": 1}]),
    "set-expression": Rehearsal([{"n": 1}]),
    "star-wars-homeworld": Rehearsal({"id": 1}),
}
"""Those that need more than the input `PET` and events of the types that they wait for."""

FLAWED = {
    "accumulate-room-readings": "`output.as` reads a member of an array, that of the events, which is an error",
    "call-custom-function-cataloged": "with a function of our own: that of the catalog has "
    "`arguments` of a script as a mapping, where the reference has a list, and is refused",
    "call-asyncapi-subscribe-consume-until": "nothing adds to what its `until` counts, so only its 30 minutes end it",
    "call-asyncapi-subscribe-consume-while": "nothing adds to what its `while` counts, so it never ends",
    "for": "`output.as` reads a member of an array, that of the events, which is an error",
    "mock-service-extension": "`when` applies `startswith` to an object, the endpoint, which is an error",
    "schedule-event-driven": "it reads envelopes without `read: envelope`, so what it sends has nulls",
}
"""What examples do as they stand, and are not meant to."""


@needs_copy
@pytest.mark.parametrize("stem", sorted(JUDGED.keys() - REFUSED.keys()))
async def test_an_example_runs(rehearse, stem):
    rehearsal = REHEARSALS.get(stem, Rehearsal())
    data = PET if rehearsal.data is None else rehearsal.data
    ended = await rehearse(published_examples()[stem].decode(), data, events=rehearsal.events)
    if rehearsal.waits:
        assert ended is None
    elif rehearsal.error is not None:
        assert ended.error["status"] == rehearsal.error
    else:
        assert ended.output is not ...


def test_what_is_said_of_examples_is_said_of_those_that_run():
    runs = JUDGED.keys() - REFUSED.keys()
    assert REHEARSALS.keys() | FLAWED.keys() <= runs
