"""Brackets in names become structure, and no value is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.payloads.forms import nest


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("a", 1), ("a", 2)], {"a": [1, 2]}),
        ([("a[b]", 1), ("a[c][d]", 2)], {"a": {"b": 1, "c": {"d": 2}}}),
        ([("a[]", 1)], {"a": [1]}),
        ([("a[]", 1), ("a[]", 2)], {"a": [1, 2]}),
        ([("a[1]", "y"), ("a[0]", "x")], {"a": ["x", "y"]}),
        ([("a[0][n]", 1), ("a[1][n]", 2)], {"a": [{"n": 1}, {"n": 2}]}),
        ([("a[0]", 1), ("a[]", 2)], {"a": [1, 2]}),
        ([("a[0]", 1), ("a[x]", 2)], {"a": {"0": 1, "x": 2}}),
        ([("a", 1), ("a[b]", 2)], {"a": {"": 1, "b": 2}}),
        ([("a[b]", 2), ("a", 1)], {"a": {"": 1, "b": 2}}),
        ([("a[b][]", 1), ("a[b][c]", 2)], {"a": {"b": {"c": 2, "[]": [1]}}}),
        ([("[a]", 1), ("a]b", 2), ("a[b", 3), ("", 4)], {"[a]": 1, "a]b": 2, "a[b": 3, "": 4}),
        ([("__proto__[x]", 1)], {"__proto__": {"x": 1}}),
        ([], {}),
    ],
)
def test_names_are_places(fields, expected):
    assert nest(fields) == expected


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


names = st.lists(st.sampled_from(["a", "b", "[]", "[a]", "[0]", "[1]", "[", "]"]), max_size=5).map("".join)


@given(st.lists(names, max_size=12))
def test_every_value_is_somewhere(found):
    assert sorted(leaves(nest((name, index) for index, name in enumerate(found)))) == list(range(len(found)))
