"""Which flows an event concerns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.model import Correlation, EventFilter
from router.reactions.definition import ANY_EVENT
from router.reactions.index import FlowIndex
from router.reactions.matching import canonical, passes


def wants(type_="", *correlations, **attributes):
    return EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)


def event(type_="a", **attributes):
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, **attributes}


@pytest.fixture
def index():
    return FlowIndex()


def test_an_event_concerns_those_that_want_its_type_or_any_each_once(index):
    index.put("one", [wants("a"), wants("a", source="/s")])
    index.put("other", [wants("b")])
    index.put("all", [ANY_EVENT])
    index.put("both", [wants("b"), wants(source="/s")])
    assert sorted(index.find(event())) == ["all", "both", "one"]
    assert sorted(index.find(event("b"))) == ["all", "both", "other"]
    assert index.find(event("c", source="/t")) == ["all"]


def test_a_flow_that_changed_wants_what_it_says_now(index):
    index.put("flow", [wants("a"), ANY_EVENT])
    index.put("flow", [wants("b")])
    assert (index.find(event("a")), index.find(event("b"))) == ([], ["flow"])
    index.put("flow", [])
    assert (index.find(event("b")), len(index), index._by_type) == ([], 0, {})


@pytest.mark.parametrize(
    ("event_filter", "passed"),
    [
        (wants("a", subject="x"), True),
        (wants("a", subject="y"), False),
        (wants("a", missing="x"), False),
        (wants("a", count="7", urgent="true"), True),
        (wants("a", urgent="True"), False),
        (wants("a", Correlation(".data.n", b"1")), True),
        (wants("a", Correlation(".data.n", b"1.0")), True),
        (wants("a", Correlation(".data.n", b'"1"')), False),
        (wants("a", Correlation(".data.n", b"true")), False),
        (wants("a", Correlation('"\\(.data.n)/\\(.subject)"', b'"1/x"')), True),
        (wants("a", Correlation(".data.deep.er", b"null")), False),
        (wants("a", Correlation(".subject.no", b"null")), False),
    ],
)
def test_an_event_passes_a_filter_when_it_has_all_that_this_asks_for(event_filter, passed):
    assert passes(event_filter, event(subject="x", count=7, urgent=True, data={"n": 1})) is passed


NUMBERS = st.integers(-(1 << 53) + 1, (1 << 53) - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def is_equal(one, other):
    """Whether two values are equal in jq, where a truth value is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_equal(value, other[key]) for key, value in one.items())
    return one == other


@given(VALUES, VALUES)
def test_values_are_the_same_text_exactly_when_they_are_equal(one, other):
    assert (canonical(one) == canonical(other)) == is_equal(one, other)


@given(st.integers(-(1 << 52), 1 << 52))
def test_a_whole_number_is_the_same_however_it_is_written(number):
    assert canonical([number, {"a": number}]) == canonical([float(number), {"a": float(number)}])
