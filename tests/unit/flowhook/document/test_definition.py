"""The tasks of a definition, wherever they stand."""

from __future__ import annotations

import pytest

from flowhook.document.definition import awaited_types, filters_of, literal_type, walk, walk_everywhere


def test_tasks_within_tasks_are_found_with_their_place():
    definition = {
        "do": [
            {"one": {"set": {"a": 1}}},
            {"two": {"do": [{"a/b": {"call": "http"}}]}},
            {"three": {"for": {"each": "x"}, "do": [{"body": {"set": {}}}]}},
            {"four": {"fork": {"branches": [{"left": {"wait": "PT1S"}}, {"right": {"do": [{"deep": {"set": {}}}]}}]}}},
            {"five": {"try": [{"risky": {"call": "x"}}], "catch": {"do": [{"mend": {"set": {}}}]}}},
            {"six": {"listen": {"to": {}}, "foreach": {"do": [{"each": {"emit": {}}}]}}},
        ]
    }
    assert [(task.pointer, task.kind) for task in walk(definition)] == [
        ("/do/0/one", "set"),
        ("/do/1/two", "do"),
        ("/do/1/two/do/0/a~1b", "call"),
        ("/do/2/three", "for"),
        ("/do/2/three/do/0/body", "set"),
        ("/do/3/four", "fork"),
        ("/do/3/four/fork/branches/0/left", "wait"),
        ("/do/3/four/fork/branches/1/right", "do"),
        ("/do/3/four/fork/branches/1/right/do/0/deep", "set"),
        ("/do/4/five", "try"),
        ("/do/4/five/try/0/risky", "call"),
        ("/do/4/five/catch/do/0/mend", "set"),
        ("/do/5/six", "listen"),
        ("/do/5/six/foreach/do/0/each", "emit"),
    ]


@pytest.mark.parametrize(
    "definition",
    [{}, {"do": None}, {"do": [1, {}, {"a": 1, "b": 2}, {"a": None}]}, {"do": [{"a": {"fork": 5, "do": "x"}}]}],
)
def test_what_has_not_the_shape_of_a_task_is_passed_over(definition):
    assert [task.kind for task in walk(definition)] in ([], ["do"])


def test_tasks_of_functions_and_extensions_are_found_where_they_stand():
    definition = {
        "use": {
            "functions": {"f/g": {"do": [{"in": {"set": {}}}]}},
            "extensions": [{"log": {"extend": "all", "before": [{"b": {"call": "x"}}], "after": [{"a": {"set": {}}}]}}],
        },
        "do": [{"one": {"wait": "PT1S"}}],
    }
    assert [(task.pointer, task.kind) for task in walk_everywhere(definition)] == [
        ("/do/0/one", "wait"),
        ("/use/functions/f~1g", "do"),
        ("/use/functions/f~1g/do/0/in", "set"),
        ("/use/extensions/0/log/before/0/b", "call"),
        ("/use/extensions/0/log/after/0/a", "set"),
    ]


@pytest.mark.parametrize("use", [None, 5, {"functions": 5, "extensions": [{"a": 5}, 7]}, {"functions": {"f": 5}}])
def test_functions_and_extensions_of_another_shape_are_passed_over(use):
    assert list(walk_everywhere({"use": use})) == []


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
