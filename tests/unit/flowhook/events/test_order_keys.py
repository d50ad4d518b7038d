"""Order keys, computed from events."""

from __future__ import annotations

import orjson
from support.cases import cases

from flowhook import limits
from flowhook.events.keys import KeyExpressions
from flowhook.events.workflow_input import admission_view
from flowhook.model import Event, Origin


def event(body=None, content_type="application/json", raw=None, headers=(), **fields):
    return Event(
        id="evt_1",
        flow_id="shop",
        receive_time_ms=0,
        principal=None,
        dedupe_key="",
        method="POST",
        path="/hook/shop",
        query="a=1",
        content_type=content_type,
        headers=headers,
        body=orjson.dumps(body) if raw is None else raw,
        **fields,
    )


def key(expression, message, **options):
    expressions = KeyExpressions(expression, **options)
    return expressions.of_view(admission_view(message, webhook=expressions.webhook, raw=expressions.raw)).order_key


@cases(
    ("value", "expected"),
    [
        ("a", "a"),
        ("", ""),
        (7, "7"),
        (7.5, "7.5"),
        (0, "0"),
        (False, "false"),
        (None, ""),
        ([1, "x"], '[1,"x"]'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ("é", "é"),
    ],
)
def test_a_string_is_the_key_and_any_other_value_is_written_as_json(value, expected):
    assert key("${ .body.account }", event({"account": value})) == expected


@cases(
    "body", [event([1]), event("text"), event(raw=b"{"), event(raw=b""), event({}), event({"account": 1}, "text/plain")]
)
def test_an_event_that_the_path_does_not_fit_has_no_key(body):
    assert key("${ .body.account }", body) == ""


def test_the_key_may_be_made_of_everything_that_expressions_under_webhook_see():
    expression = '${ "\\(.headers["x-shop"])/\\(.query.a)" }'
    assert key(expression, event({}, headers=(("x-shop", b"north"),))) == "north/1"


def test_the_key_of_what_no_request_started_is_made_of_its_input():
    assert key("${ .account }", event({"account": "a"}, origin=Origin.WORKFLOW)) == "a"
    assert key("${ .[0].data.account }", event([{"data": {"account": 7}}], origin=Origin.EVENTS)) == "7"
    assert key("${ .body.account }", event({}, origin=Origin.SCHEDULE)) == ""


def test_a_value_that_nests_deeper_than_can_be_written_is_no_key():
    deep = event(raw=b'{"account":' * 300 + b"1" + b"}" * 300)
    assert key("${ .body.account }", deep) == ""


def test_a_long_value_becomes_a_key_of_bounded_length_and_stays_distinct():
    expression = "${ .body }"
    keys = {key(expression, event("x" * length)) for length in (256, 257, 10_000)} | {key(expression, event("é" * 129))}
    assert len(keys) == 4
    assert max(len(key.encode()) for key in keys) <= limits.MAX_ORDER_KEY_BYTES


def test_without_a_webhook_the_path_goes_into_the_content_as_the_flow_does():
    expression = "${ .account }"
    assert key(expression, event({"account": "a"}), webhook=False) == "a"
    assert key(expression, event({"body": {"account": "a"}}), webhook=False) == ""
    assert key("${ .content_type }", event(raw=b"\xff", content_type="image/png"), webhook=False) == "image/png"
