"""The tasks of a definition, wherever they stand."""

from __future__ import annotations

import pytest

from flowhook.document.walk import walk, walk_everywhere


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
