"""The part of a body that is looked at."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from flowhook.expressions import ExpressionTypeError
from flowhook.expressions.paths import compile_accessor, paths_in
from flowhook.payloads.selection import encoded_headers, parse_selected, select, selection_of

PATHS = [".", ".a", ".a.b", ".b[0].a", ".a[-1]", ".b", '.a["b"].a', '"\\(.a.a) \\(.b)"', "1"]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def outcome(source, value):
    try:
        return compile_accessor(source)(value)
    except ExpressionTypeError as error:
        return str(error)


@given(VALUES, st.lists(st.sampled_from(PATHS), max_size=4))
def test_every_expression_yields_of_the_selection_what_it_yields_of_the_whole(value, sources):
    selection = selection_of(path for source in sources for path in paths_in(source))
    selected = select(value, selection)
    assert [outcome(source, selected) for source in sources] == [outcome(source, value) for source in sources]


def test_what_nobody_looks_at_is_left_out():
    value = {"a": {"b": 1, "c": [2] * 100}, "d": "x" * 100, "e": 3}
    assert select(value, selection_of([("a", "b"), ("e",), ("f",)])) == {"a": {"b": 1}, "e": 3}
    assert select(value, selection_of([])) == {}
    assert select(value, selection_of([("a", "b"), ()])) == value


def test_paths_in_an_expression_are_found_wherever_they_stand():
    assert paths_in('"\\(.a.b) \\($c.d) \\(.e[0])"') == [("a", "b"), ("e", 0)]
    assert paths_in("$a.b") == []


def selected(body, selection, content_type="application/json", headers=(), limit=1000):
    (result,) = parse_selected(
        content_type.encode(), encoded_headers(headers), b"%d" % limit, orjson.dumps(selection), body
    )
    return orjson.loads(result)


def test_a_body_is_parsed_and_the_selection_of_it_returned():
    assert selected(b'{"a": 1, "b": 2}', {"b": None}) == {"b": 2}
    assert selected(b"a=1&b=2", None, "application/x-www-form-urlencoded") == {"a": "1", "b": "2"}
    assert selected(b"", None, "text/plain") is None


def test_the_attributes_of_a_cloud_event_in_binary_mode_are_there():
    headers = [("ce-specversion", b"1.0"), ("ce-id", b"7"), ("x-other", b"\xff")]
    assert selected(b"[1]", {"id": None, "data": None}, headers=headers) == {"id": "7", "data": [1]}


def test_what_is_read_but_nested_too_deeply_for_one_library_is_returned():
    body = b"[" * 500 + b"]" * 500
    assert selected(body, None) == orjson.loads(body)


def test_a_body_that_is_not_what_it_says_is_refused():
    with pytest.raises(InvalidError) as refusal:
        selected(b"{", {})
    assert refusal.value.reason == "BODY_INVALID"
