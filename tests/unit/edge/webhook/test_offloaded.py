"""What an edge's process apart makes of a large body."""

from __future__ import annotations

import orjson
import pytest

from edge.webhook.offloaded import MAX_SELECTED_BYTES, parse_large_body
from flowhook.errors import InvalidError
from flowhook.events.keys import ShapingKeys
from flowhook.payloads.parsing import selection_of

VIEW = {"id": "evt_1", "headers": {"x": "north"}, "body": None}


def read(body, *, selection=None, kind="application/json", headers=(), fields=None, **wanted):
    wanted = {"order_by": None, "dedupe": None, "search": {}, "shaping": {}, **wanted}
    query = orjson.dumps([selection, *(wanted[name] for name in ("dedupe", "order_by", "search", "shaping"))])
    selected, dedupe, order_key, attributes, shaped = parse_large_body(
        orjson.dumps([kind, headers, 10_000_000, fields or {}]), query, orjson.dumps(VIEW), body
    )
    made = orjson.loads(selected), *(key.decode() for key in (order_key, dedupe, attributes))
    return (*made, ShapingKeys.unpack(shaped)) if wanted["shaping"] else made


def test_a_body_is_parsed_and_the_selection_of_it_returned():
    assert read(b'{"a": 1, "b": 2}', selection=selection_of([("b",)])) == ({"b": 2}, "", "", "[]")
    assert read(b"a=1&b=2", kind="application/x-www-form-urlencoded")[0] == {"a": "1", "b": "2"}
    assert read(b"", kind="text/plain")[0] is None


def test_a_field_of_a_form_is_of_its_type():
    form = "application/x-www-form-urlencoded"
    assert read(b"a=1&b=2", kind=form, fields={"a": "number"}, order_by="${ .body.a }")[:2] == ({"a": 1, "b": "2"}, "1")
    with pytest.raises(InvalidError, match="the field a is not a number"):
        read(b"a=one", kind=form, fields={"a": "number"})


def test_its_keys_are_made_of_all_that_expressions_see():
    keys = {
        "order_by": '${ "\\(.headers.x)/\\(.body.a)" }',
        "dedupe": "${ .body.b }",
        "search": {"a": ".body.a", "none": ".body.b"},
    }
    assert read(b'{"a": 1, "b": [2]}', selection={}, **keys) == ({}, "north/1", "[2]", '[["a","1"]]')


def test_its_keys_of_shaping_are_made_with_the_others():
    shaping = {"rate": "${ .headers.x }", "concurrency": "${ .body.a }"}
    assert read(b'{"a": 7}', selection={}, shaping=shaping)[-1] == ShapingKeys("north", "7", 0)


@pytest.mark.parametrize("key", ["order_by", "dedupe"])
def test_a_key_of_any_size_is_short(key):
    body = orjson.dumps({"a": [{str(number): 0} for number in range(100_000)]})
    made = [each for each in read(body, selection={}, **{key: "${ .body.a }"})[1:] if each != "[]" and each]
    assert len(made) == 1
    assert len(made[0]) < 100


def test_an_edge_gets_no_more_than_it_can_read_at_once():
    fits, large = ("x" * (MAX_SELECTED_BYTES - size) for size in (10, 0))
    assert read(orjson.dumps({"a": fits}), selection=selection_of([("a",)]))[0] == {"a": fits}
    assert read(orjson.dumps({"a": large}), selection=selection_of([("a",)]))[0] is None


def test_the_attributes_of_a_cloud_event_in_binary_mode_are_there():
    headers = [("ce-specversion", "1.0"), ("ce-id", "7")]
    assert read(b"[1]", selection=selection_of([("id",), ("data",)]), headers=headers)[0] == {"id": "7", "data": [1]}


def test_what_is_read_but_nested_too_deeply_for_one_library_is_returned():
    body = b"[" * 500 + b"]" * 500
    assert read(body)[0] == orjson.loads(body)


def test_a_body_that_is_not_what_it_says_is_refused():
    with pytest.raises(InvalidError) as refusal:
        read(b"{")
    assert refusal.value.reason == "BODY_INVALID"
