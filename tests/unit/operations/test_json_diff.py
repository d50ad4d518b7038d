"""Differences of JSON values, by path."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook.json import verbatim
from operations.comparison import MAX_DEPTH, MAX_SHOWN, find_differences

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=4),
    max_leaves=20,
)


def differences(first, second):
    found = find_differences(verbatim.loads(first), verbatim.loads(second))
    return [(str(each.kind), each.path, each.first, each.second) for each in found]


def test_what_was_added_removed_and_changed_is_listed_in_order():
    first = b'{"gone": [1], "same": {"x": 1}, "order": {"id": "A", "lines": [1, 2]}}'
    second = b'{"order": {"id": "B", "lines": [1, 3, {"n": 4}]}, "same": {"x": 1}, "new": null}'
    assert differences(first, second) == [
        ("removed", "/gone", "[1]", ""),
        ("changed", "/order/id", '"A"', '"B"'),
        ("changed", "/order/lines/1", "2", "3"),
        ("added", "/order/lines/2", "", '{"n":4}'),
        ("added", "/new", "", "null"),
    ]


def test_numbers_are_compared_and_shown_as_they_were_written():
    digits = b"7" * 30
    assert differences(b"[1.0, 1e2, 5]", b"[1, 100, 5]") == [
        ("changed", "/0", "1.0", "1"),
        ("changed", "/1", "1e2", "100"),
    ]
    assert differences(digits + b"1", digits + b"2") == [("changed", "", "7" * 30 + "1", "7" * 30 + "2")]
    assert differences(b'["1"]', b"[1]") == [("changed", "/0", '"1"', "1")]


def test_strings_are_compared_by_their_characters_whatever_their_escapes():
    assert differences(b'{"\\u0061": "\\u00e4"}', '{"a": "ä"}'.encode()) == []
    assert differences(b'["\\ud800"]', b'["x"]') == [("changed", "/0", '"\\ud800"', '"x"')]


def test_names_in_paths_are_escaped():
    assert [each[1] for each in differences(b'{"a/b": {"~": 1}}', b'{"a/b": {"~": 2}}')] == ["/a~1b/~0"]


def test_true_is_not_one_and_an_object_is_no_array():
    assert differences(b"[true, {}, []]", b"[1, [], []]") == [
        ("changed", "/0", "true", "1"),
        ("changed", "/1", "{}", "[]"),
    ]


def test_large_values_are_cut_and_deep_ones_reported_where_paths_end():
    [found] = differences(b"[]", b'["' + b"x" * 10_000 + b'"]')
    assert found[3] == '"' + "x" * (MAX_SHOWN - 1) + "…"
    deep = b'{"a":' * 200
    [found] = differences(deep + b"1" + b"}" * 200, deep + b"2" + b"}" * 200)
    assert found[1] == "/a" * MAX_DEPTH
    assert differences(deep + b"1" + b"}" * 200, deep + b"1" + b"}" * 200) == []


@settings(deadline=None)  # machines that run tests stall; it says nothing about the code
@given(values, values)
def test_there_are_differences_exactly_between_values_that_differ(first, second):
    one, other = json.dumps(first).encode(), json.dumps(second).encode()
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (json.dumps(first, sort_keys=True) != json.dumps(second, sort_keys=True))
    swapped = {"added": "removed", "removed": "added", "changed": "changed"}
    mirrored = {(swapped[kind], path, after, before) for kind, path, before, after in differences(other, one)}
    assert set(differences(one, other)) == mirrored
