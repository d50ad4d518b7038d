"""Keys of shaping: which expressions a flow has for them, and what they yield."""

from __future__ import annotations

import pytest

from flowhook.events.keys import (
    MAX_PRIORITY,
    ShapingExpressions,
    ShapingKeys,
    read_priority,
    shaping_expressions,
)


def test_the_expressions_of_a_flow_are_found_where_it_has_keys():
    assert shaping_expressions({}) == {}
    assert shaping_expressions({"rate": {"limit": 1, "per": "PT1S"}, "concurrency": 3, "priority": 2}) == {}
    keyed = {"rate": {"limit": 1, "per": "PT1S", "key": "${ .a }"}, "concurrency": {"limit": 2, "key": "${ .b }"}}
    expected = {"rate": "${ .a }", "concurrency": "${ .b }", "priority": "${ .c }"}
    assert shaping_expressions({**keyed, "priority": "${ .c }"}) == expected


def test_keys_are_made_as_order_keys_are():
    expressions = ShapingExpressions({"rate": "${ .a }", "concurrency": "${ .b }", "priority": "${ .c }"})
    assert expressions.of_view({"a": "x", "b": {"d": 1}, "c": 7}) == ShapingKeys("x", '{"d":1}', 7)
    assert expressions.of_view({}) == ShapingKeys()
    assert expressions.of_view([]) == ShapingKeys()
    assert len(expressions.of_view({"a": "x" * 10_000}).rate) < 100


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        *[("5", 5), ("5.9", 5), ("-3", 0), ("1e9", MAX_PRIORITY), ("", 0), ("high", 0), ("true", 0), ("nan", 0)],
        *[("inf", 0), ("[5]", 0)],
    ],
)
def test_every_value_amounts_to_a_priority(text, priority):
    assert read_priority(text) == priority


def test_they_are_stored_as_text():
    keys = ShapingKeys("ä", '{"d":1}', 7)
    assert ShapingKeys.unpack(keys.pack()) == keys
