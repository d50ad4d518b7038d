"""CloudEvents: of callbacks, and what others send."""

import itertools

import orjson
import pytest
from support.cases import cases

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.events import cloud_events
from flowhook.events.workflow_input import request_view
from flowhook.model import Event
from flowhook.model.error_types import ERROR_TYPE_BASE, spellings

EVENT = Event(
    id="evt_01m8746v7wemm95kbphkypt3c6",
    flow_id="orders",
    receive_time_ms=1_700_000_000_123,
    principal=None,
    dedupe_key="",
    method="POST",
    path="/hook/orders/approval",
    query="by=ann",
    content_type="application/json",
    headers=(("x-trace", b"1"),),
    body=b'{"order":7,"ok":true}',
    callback="approval",
)
MINIMAL = {"id": "1", "source": "/a", "specversion": "1.0", "type": "paid"}


def test_a_callback_is_an_event_of_its_name_whose_data_is_like_a_workflows_input():
    event = cloud_events.parse(cloud_events.from_callback(EVENT))
    assert event == {
        "specversion": "1.0",
        "id": EVENT.id,
        "type": "approval",
        "source": "/hook/orders/approval",
        "time": "2023-11-14T22:13:20.123Z",
        "datacontenttype": "application/json",
        "data": request_view(EVENT),
    }
    assert event["data"]["body"] == {"order": 7, "ok": True}


def test_only_a_callback_that_arrived_by_a_one_time_url_says_so():
    event = orjson.loads(cloud_events.from_callback(EVENT._replace(callback_token="t")))
    assert event.pop(cloud_events.ONE_TIME) is True
    assert event == orjson.loads(cloud_events.from_callback(EVENT))


@pytest.mark.parametrize(
    ("sent", "said"),
    [(f"00-{'a' * 32}-{'b' * 16}-01", True), ("", False), ("sesame", False), (f"00-{'0' * 32}-{'b' * 16}-01", False)],
)
def test_a_callback_has_the_trace_context_of_its_request_and_nothing_else_that_was_sent_in_its_place(sent, said):
    event = cloud_events.parse(cloud_events.from_callback(EVENT._replace(traceparent=sent)))
    assert event.get("traceparent") == (sent if said else None)


def test_a_callback_over_grpc_has_the_source_that_it_had_over_http():
    assert orjson.loads(cloud_events.from_callback(EVENT._replace(path="")))["source"] == "/hook/orders/approval"


def test_a_body_may_be_left_as_it_is():
    data = orjson.loads(cloud_events.from_callback(EVENT, raw=True))["data"]
    assert (data["body"], data["attachments"][0]["content"]) == (None, EVENT.body.decode())


@pytest.mark.parametrize(("levels", "taken"), [(252, True), (253, False), (1000, False)])
def test_what_is_nested_too_deeply_for_an_event_is_refused(levels, taken):
    event = EVENT._replace(body=b"[" * levels + b"]" * levels)
    if taken:
        assert orjson.loads(cloud_events.from_callback(event))["data"]["body"] is not None
        return
    with pytest.raises(InvalidError) as caught:
        cloud_events.from_callback(event)
    assert caught.value.reason == "CALLBACK_TOO_LARGE"


def test_what_is_too_large_for_a_journal_is_refused():
    with pytest.raises(InvalidError) as caught:
        cloud_events.from_callback(EVENT._replace(body=b'"' + b"x" * limits.MAX_RESULT_BYTES + b'"'))
    assert caught.value.reason == "CALLBACK_TOO_LARGE"


@cases(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        *(orjson.dumps({name: value for name, value in MINIMAL.items() if name != missing}) for missing in MINIMAL),
        *(orjson.dumps(MINIMAL | {name: value}) for name in MINIMAL for value in ("", 1, None)),
        orjson.dumps(MINIMAL | {"specversion": "0.3"}),
        orjson.dumps(MINIMAL | {"data": "x" * limits.MAX_RESULT_BYTES}),
        orjson.dumps(MINIMAL | {"data": "x", "data_base64": "eA=="}),
        orjson.dumps(MINIMAL | {"type": "x" * (cloud_events.MAX_TYPE_LENGTH + 1)}),
        *(orjson.dumps(MINIMAL | {name: "x"}) for name in ("", "Upper", "with-dash", "data_", "x" * 65)),
        *(orjson.dumps(MINIMAL | {"ext": value}) for value in (1.5, [], {})),
    ],
)
def test_what_is_no_event_is_refused(payload):
    with pytest.raises(InvalidError) as caught:
        cloud_events.parse(payload)
    assert caught.value.reason == "CLOUD_EVENT_INVALID"


def test_an_event_may_have_attributes_of_its_own_and_any_data():
    event = MINIMAL | {"type": "x" * cloud_events.MAX_TYPE_LENGTH, "sampled": True, "level": 3, "unset": None}
    for data in ({}, {"data": None}, {"data": [1.5, {"Any": 1}]}, {"data_base64": "eA=="}):
        assert cloud_events.parse(orjson.dumps(event | data)) == event | data


def test_attributes_are_read_as_text_and_data_is_none():
    event = MINIMAL | {"sampled": True, "level": -3, "data": "x", "nothing": None, "broken": 1.5}
    names = ("type", "sampled", "level", "data", "nothing", "broken", "missing")
    assert [cloud_events.attribute(event, name) for name in names] == ["paid", "true", "-3", None, None, None, None]


TIMEOUTS = spellings(f"{ERROR_TYPE_BASE}timeout")


@cases(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        ({"a": [1.0], "b": 2}, {"b": 2.0, "a": [1]}, True),
        (1, True, False),
        (1, "1", False),
        (1.5, 1, False),
        ([1, 2], [2, 1], False),
        ({"a": None}, {}, False),
        (2**60, float(2**60), False),
        *(({"type": one}, {"type": other}, True) for one, other in itertools.pairwise(TIMEOUTS)),
        (TIMEOUTS[0], TIMEOUTS[0].replace("timeout", "runtime"), False),
    ],
)
def test_values_are_compared_as_json_whatever_its_order_and_notation(one, other, same):
    assert (cloud_events.canonical_json(one) == cloud_events.canonical_json(other)) is same
