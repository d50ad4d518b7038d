# ruff: noqa: E501  # one bad file a row reads best
import pytest
from support.cases import cases
from support.flow_files import HEAD, faults_of

# What stands below `do:`, from line 3 on; then line, key and code.
BAD = [
    ("- a: {set: {c: 1}}\n  b: {set: {c: 1}}", 4, "do[0]", "ITEM_INVALID"),
    ("- a:\n  set: {c: 1}", 4, "do[0]", "ITEM_INVALID"),
    ("- a:\n    set: {c: 1}\n  then: end", 5, "do[0]", "ITEM_INVALID"),
    ("- a:\n  call: http\n  with: {}\n  then: end", 4, "do[0]", "ITEM_INVALID"),
    ("- a:", 3, "do[0]", "ITEM_INVALID"),
    ("- set: {c: 1}", 3, "do[0]", "ITEM_INVALID"),
    ("- wait: PT5S", 3, "do[0]", "ITEM_INVALID"),
    ("- for: {in: .x}\n  do: []", 3, "do[0]", "ITEM_INVALID"),
    ("- name: a\n  set: {c: 1}", 3, "do[0]", "ITEM_INVALID"),
    ("  a: {set: {c: 1}}\n  b: {set: {c: 1}}", 3, "do", "ITEM_INVALID"),
    ("- a: {try: {b: {set: {c: 1}}}, catch: {}}", 3, "do[0].a.try", "ITEM_INVALID"),
    ("- a: {try: {call: twitter.post}, catch: {}}", 3, "do[0].a.try", "ITEM_INVALID"),
    ("- a: {fork: {branches: {b: {set: {c: 1}}}}}", 3, "do[0].a.fork.branches", "ITEM_INVALID"),
    ("- a: {do: [{b: {set: {c: 1}}}, {set: {c: 1}}]}", 3, "do[0].a.do[1]", "ITEM_INVALID"),
    ("- a:\n    switch:\n    - {when: .x, then: end}", 5, "do[0].a.switch[0]", "ITEM_INVALID"),
    ("- a:\n    switch:\n    - b: {when: .x, then: end}\n      c: {then: end}", 6, "do[0].a.switch[0]", "ITEM_INVALID"),
    ("- a:\n    switch:\n    - b:\n      then: end", 6, "do[0].a.switch[0]", "ITEM_INVALID"),
    ("- a:\n    switch:\n    - default: end", 5, "do[0].a.switch[0]", "ITEM_INVALID"),
    ("- a:\n    try:\n      b: {set: {c: 1}}\n    catch: {}", 5, "do[0].a.try", "ITEM_INVALID"),
    ("- a:\n    call: http\n    with:\n      - method: get", 6, "do[0].a.with", "VALUE_TYPE"),
    ("- a:\n    listen:\n      to:\n        one:\n          - with: {type: x}", 7, "do[0].a.listen.to.one", "VALUE_TYPE"),
    ("- a:\n    listen:\n      to:\n        any:\n          with: {type: x}", 7, "do[0].a.listen.to.any", "VALUE_TYPE"),
    ("- a:\n    switch: {b: {then: end}}", 4, "do[0].a.switch", "ITEM_INVALID"),
]  # fmt: skip


@cases(("tasks", "line", "key", "code"), BAD)
def test_names_and_hyphens_in_the_wrong_place_are_reported_once(tasks, line, key, code):
    assert faults_of(f"{HEAD}do:\n{tasks}") == [(line, key, code)]


@pytest.mark.parametrize("name", ["set", "do", "wait", "then", "call"])
def test_a_task_may_be_called_like_a_key(name):
    tasks = f"- {name}: {{set: {{c: 1}}, then: nowhere}}"
    assert [key for _, key, _ in faults_of(f"{HEAD}do:\n{tasks}")] == [f"do[0].{name}.then"]
