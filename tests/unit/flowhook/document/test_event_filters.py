"""Filters of events, wherever they stand."""

from __future__ import annotations

import pytest

from flowhook.document.event_filters import awaited_types, filters_of, literal_type


def test_filters_are_found_with_their_place_those_of_until_too():
    strategy = {
        "any": [{"with": {"type": "a"}}, {"with": {"source": "b"}}],
        "until": {"all": [{"with": {"type": "c"}}]},
    }
    assert [(path, literal_type(each)) for path, each in filters_of(strategy, ("to",))] == [
        (("to", "any", 0), "a"),
        (("to", "any", 1), None),
        (("to", "until", "all", 0), "c"),
    ]
    assert list(filters_of({"one": {"with": {}}})) == [(("one",), {"with": {}})]


@pytest.mark.parametrize("strategy", [None, 5, {"any": 5}, {"all": [5]}, {"one": []}, {"any": [], "until": ".x"}])
def test_what_has_not_the_shape_of_a_filter_is_passed_over(strategy):
    assert list(filters_of(strategy)) == []


@pytest.mark.parametrize(
    "event_filter", [{}, {"with": 5}, {"with": {"type": "${ .x }"}}, {"with": {"type": 5}}, {"with": {"type": "a.*"}}]
)
def test_a_type_is_a_text_that_is_no_expression_of_either_kind(event_filter):
    assert literal_type(event_filter) is None


def test_a_flow_waits_for_the_types_of_all_its_listen_tasks():
    def listen(kind):
        return {"listen": {"to": {"one": {"with": {"type": kind}}}}}

    definition = {
        "do": [{"a": listen("x")}, {"b": {"do": [{"c": listen("y")}]}}],
        "use": {"functions": {"f": listen("z")}},
    }
    assert awaited_types(definition) == {"x", "y", "z"}
