"""What `emit`, `listen`, `run` and extensions mean."""

from __future__ import annotations

import pytest


def event(kind, data=None, **more):
    return {"specversion": "1.0", "id": "1", "source": "https://e.com", "type": kind, "data": data, **more}


async def test_an_event_is_emitted_as_it_is_written_and_is_the_output(play):
    ended = await play(
        """
do:
  - greet:
      emit:
        event:
          with:
            source: https://e.com
            type: com.example.greeted
            data: {greeting: '${ "Hello \\(.user.name)!" }'}
""",
        {"user": {"name": "Ann"}},
    )
    assert play.emitted == [ended.output]
    assert ended.output.keys() == {"id", "specversion", "time", "source", "type", "data"}
    assert (ended.output["source"], ended.output["type"]) == ("https://e.com", "com.example.greeted")
    assert ended.output["data"] == {"greeting": "Hello Ann!"}


HEAT = event("heat", {"degrees": 39})
COLD = event("heat", {"degrees": 36})
PULSE = event("pulse", {"bpm": 120})
LEFT = event("left", {"by": "car"})
FEVER = "{with: {type: heat, data: '${ .degrees > 38 }'}}"
RACING = "{with: {type: pulse, data: '${ .bpm > 100 }'}}"


@pytest.mark.parametrize(
    ("to", "events", "expected"),
    [
        (f"one: {FEVER}", [COLD, HEAT], [HEAT]),
        (f"any: [{FEVER}, {RACING}]", [COLD, PULSE, HEAT], [PULSE]),
        ("any: []", [LEFT, HEAT], [LEFT]),
        ("one: {with: {type: 'he.t|pulse'}}", [LEFT, HEAT], [HEAT]),
        ("one: {with: {source: 'https://[a-z]+\\.com', type: left}}", [HEAT, LEFT], [LEFT]),
        (f"all: [{FEVER}, {RACING}]", [PULSE, PULSE, COLD, HEAT], [PULSE, HEAT]),
        ("any: [], until: '( . | length ) > 2'", [HEAT, COLD, LEFT, PULSE], [HEAT, COLD, LEFT]),
        (f"any: [{FEVER}], until: {{one: {{with: {{type: left}}}}}}", [HEAT, COLD, HEAT, LEFT], [HEAT, HEAT]),
        (f"any: [], until: {{all: [{{with: {{type: left}}}}, {RACING}]}}", [HEAT, PULSE, LEFT, COLD], [HEAT]),
    ],
)
async def test_which_events_are_consumed(play, to, events, expected):
    ended = await play(f"do: [{{wait: {{listen: {{to: {{{to}}}}}}}}}]", {}, events=events)
    assert ended.output == [each["data"] for each in expected]
    ended = await play(f"do: [{{wait: {{listen: {{to: {{{to}}}, read: envelope}}}}}}]", {}, events=events)
    assert ended.output == expected


async def test_events_are_processed_one_after_another(play):
    ended = await play(
        """
do:
  - note:
      listen: {to: {any: [], until: '${ $context.degrees > 80 }'}}
      foreach:
        item: event
        at: i
        do:
          - add: {set: {degrees: '${ $context.degrees + $event.degrees }'}}
        output: {as: '${ "\\($i): \\(.degrees)" }'}
        export: {as: '${ {degrees: $event.degrees} + {degrees: ($output | split(": ")[1] | tonumber)} }'}
""",
        {"degrees": 0},
        events=[HEAT, COLD, HEAT],
    )
    assert ended.output == ["0: 39", "1: 75", "2: 114"]


async def test_correlated_events_belong_together(play):
    def of(kind, order):
        return event(kind, {"order": order})

    def wanted(kind, more=""):
        return f"{{with: {{type: {kind}}}, correlate: {{order: {{from: .data.order{more}}}}}}}"

    both = [of("packed", 7), of("paid", 8), of("paid", 7)]
    to = f"all: [{wanted('paid')}, {wanted('packed')}]"
    assert (await play(f"do: [{{w: {{listen: {{to: {{{to}}}}}}}}}]", {}, events=both)).output == [{"order": 7}] * 2
    expecting = wanted("paid", ", expect: '${ .wanted }'")
    ended = await play(f"do: [{{w: {{listen: {{to: {{one: {expecting}}}}}}}}}]", {"wanted": 7}, events=both)
    assert ended.output == [{"order": 7}]


CHILD = """document: {dsl: 1.0.3, namespace: shop, name: price, version: 1.0.0}
input: {schema: {document: {required: [n]}}}
do: [{s: {set: {price: '${ .n * 2 }'}}}]
"""
RUN = "do: [{r: {run: {workflow: {namespace: shop, name: price, version: 1.0.0, input: %s}%s}}}]"


async def test_another_flow_gets_its_input_and_gives_its_output(play):
    flows = {"shop.price": CHILD}
    assert (await play(RUN % ("{n: '${ .x }'}", ""), {"x": 4}, flows=flows)).output == {"price": 8}
    assert (await play(RUN % ("{n: 1}", ", await: false"), {"x": 4}, flows=flows)).output == {"x": 4}
    assert (await play(RUN % ("{}", ""), {"x": 4}, flows=flows)).fault == ("validation", 400, "/do/0/r")


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        ("{script: {language: python, code: 'import sys; print(sys.argv[1], sys.stdin.read())', %s}}", "a b\n"),
        ("{shell: {command: 'echo $1 $(cat)', %s}}", "a b\n"),
        ("{shell: {command: 'echo no >&2; exit 3', %s}, return: all}", {"code": 3, "stdout": "", "stderr": "no\n"}),
        ("{shell: {command: 'exit 3', %s}, return: code}", 3),
        ("{shell: {command: 'echo $1', %s}, return: none}", None),
    ],
)
async def test_a_process_gives_what_is_requested(run, process, expected):
    given = "arguments: [a], stdin: '${ .in }'"
    assert (await run(f"do: [{{r: {{run: {process % given}}}}}]", {"in": "b"})).output == expected


async def test_extensions_run_around_tasks_and_may_stand_in_for_them(run, pets):
    ended = await run(
        """
use:
  extensions:
    - log:
        extend: all
        before: [{tell: {call: http, with: {method: get, endpoint: 'URL/echo'}}}]
        after: [{tell: {call: http, with: {method: get, endpoint: 'URL/echo'}}}]
    - mock:
        extend: call
        when: '$task.with.endpoint.uri | startswith("https://mocked")'
        before: [{answer: {set: {name: mocked}, then: exit}}]
do:
  - ask: {call: http, with: {method: get, endpoint: {uri: 'https://mocked.example/{id}'}}}
  - keep: {set: {name: '${ .name }'}}
""".replace("URL", pets.url),
        {"id": 1},
    )
    assert ended.output == {"name": "mocked"}
    assert len(pets.received) == 4
