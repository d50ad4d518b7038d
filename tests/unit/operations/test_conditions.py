"""Which events meet a jq condition."""

from __future__ import annotations

import orjson
import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.v1.envelope_pb2 import Event
from operations.search_conditions import HAS_WEBHOOK, MAX_FAILURE, RAW, evaluate


def event(body, **fields):
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    given = {"id": "evt_1", "flow_id": "shop", "method": "POST", "content_type": "application/json"} | fields
    return Event(body=content, **given).SerializeToString()


def found(program, *events, form=HAS_WEBHOOK):
    (result,) = evaluate(program.encode(), bytes([form] * len(events)), *events)
    return orjson.loads(result)


@cases(
    ("program", "numbers"),
    [
        (".body.total > 100", [1]),
        ("${ .body.total > 100 }", [1]),
        (".body.total > 100 # dear", [1]),
        (".body.total", [0, 1]),
        (".body.items[] == 2", [0]),
        ("def dear: .body.total > 100; dear", [1]),
        ('.method == "POST"', [0, 1, 2]),
        (".body.items[1], false", [0]),
        ("empty", []),
        ("null", []),
    ],
)
def test_an_event_meets_a_condition_if_one_of_the_results_is_true(program, numbers):
    events = [event({"total": 5, "items": [1, 2]}), event({"total": 500, "items": []}), event({"items": []})]
    assert found(program, *events) == [numbers, 0, ""]


def test_the_input_is_that_of_the_flow():
    assert found(".total == 5", event({"total": 5}), form=0) == [[0], 0, ""]
    assert found(".body == null", event({"total": 5}), form=HAS_WEBHOOK | RAW) == [[0], 0, ""]
    assert found(".attachments[0].size == 1", event(b"\xff", content_type="image/png"), form=0) == [[0], 0, ""]
    assert found('.query.a == "1"', event({}, query="a=1")) == [[0], 0, ""]


def test_what_a_condition_fails_on_does_not_meet_it_and_is_counted():
    program = ".body.total.x"
    numbers, failures, failure = found(program, event({"total": {"x": 1}}), event({"total": [1]}), event({"total": 7}))
    assert (numbers, failures) == ([0], 2)
    assert failure.startswith("Cannot index array")
    assert len(found('error("x" * 999)', event({}))[2]) == MAX_FAILURE


def test_what_cannot_be_read_leaves_the_others():
    deep = event(b"[" * 1000 + b"]" * 1000)
    unreadable = event(b"{", origin=1)
    assert found(".body.a", event({"a": 1}), deep, unreadable, event({"a": 1}))[0] == [0, 3]
    assert found(".body.a", deep, event({"a": 1}))[0] == [1]


@cases(
    ("program", "message"),
    [
        ("", "an expression is missing"),
        (".body |", "ends too early"),
        ("1) | (2", "unexpected"),
        ("env", "environment"),
        ("$ENV.HOME", "environment"),
        ("input", "there is no other"),
        ('import "a" as a; .', "no modules"),
        ("$number", "unknown variable"),
        ("halt", "not allowed"),
        ("nope", "unknown function"),
    ],
)
def test_a_program_that_is_none_or_looks_elsewhere_is_refused(program, message):
    with pytest.raises(InvalidError, match=message) as refusal:
        found(program, event({}))
    assert refusal.value.reason == "CONDITION_INVALID"
