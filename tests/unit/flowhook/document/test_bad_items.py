# ruff: noqa: E501  # one bad file a row reads best
import pytest
from support.flow_files import HEAD, faults_of

# What stands below `do:`, from line 3 on; then line, key and cause.
BAD = [
    ("- a: {set: {c: 1}}\n  b: {set: {c: 1}}", 4, "do[0]", "an item is one task: begin 'b' with a hyphen as well, `- b:`"),
    ("- a:\n  set: {c: 1}", 4, "do[0]", "'set' has to stand below 'a': indent further"),
    ("- a:\n    set: {c: 1}\n  then: end", 5, "do[0]", "'then' has to stand below 'a': indent further"),
    ("- a:\n  call: http\n  with: {}\n  then: end", 4, "do[0]", "'call', 'with' and 'then' have to stand below 'a': indent further"),
    ("- a:", 3, "do[0]", "'a' has nothing below it: indent what it is further than its name"),
    ("- set: {c: 1}", 3, "do[0]", "a task has a name: write `- my-set:` and put 'set' below it"),
    ("- wait: PT5S", 3, "do[0]", "a task has a name: write `- my-wait:` and put 'wait' below it"),
    ("- for: {in: .x}\n  do: []", 3, "do[0]", "a task has a name: write `- my-for:` and put 'for' below it"),
    ("- name: a\n  set: {c: 1}", 3, "do[0]", "the name of a task is its key: write `- a:` and put the rest below it"),
    ("  a: {set: {c: 1}}\n  b: {set: {c: 1}}", 3, "do", "expected a list of tasks: each begins with a hyphen, as in `- a:`"),
    ("- a: {try: {b: {set: {c: 1}}}, catch: {}}", 3, "do[0].a.try", "expected a list of tasks: each begins with a hyphen, as in `- b:`"),
    ("- a: {try: {call: twitter.post}, catch: {}}", 3, "do[0].a.try", "expected a list of tasks: give it a name, `- my-call:`, and put it below that"),
    ("- a: {fork: {branches: {b: {set: {c: 1}}}}}", 3, "do[0].a.fork.branches", "expected a list of tasks: each begins with a hyphen, as in `- b:`"),
    ("- a: {do: [{b: {set: {c: 1}}}, {set: {c: 1}}]}", 3, "do[0].a.do[1]", "a task has a name: write `- my-set:` and put 'set' below it"),
    ("- a:\n    switch:\n    - {when: .x, then: end}", 5, "do[0].a.switch[0]", "a case has a name: write `- my-case:` and put 'when' below it"),
    ("- a:\n    switch:\n    - b: {when: .x, then: end}\n      c: {then: end}", 6, "do[0].a.switch[0]", "an item is one case: begin 'c' with a hyphen as well, `- c:`"),
    ("- a:\n    switch:\n    - b:\n      then: end", 6, "do[0].a.switch[0]", "'then' has to stand below 'b': indent further"),
    ("- a:\n    switch:\n    - default: end", 5, "do[0].a.switch[0]", "expected a mapping with `when` and `then`: {then: end}"),
    ("- a:\n    try:\n      b: {set: {c: 1}}\n    catch: {}", 5, "do[0].a.try", "expected a list of tasks: each begins with a hyphen, as in `- b:`"),
    ("- a:\n    call: http\n    with:\n      - method: get", 6, "do[0].a.with", "expected a mapping: leave out the hyphens"),
    ("- a:\n    listen:\n      to:\n        one:\n          - with: {type: x}", 7, "do[0].a.listen.to.one", "expected a mapping with `with`: leave out the hyphens"),
    ("- a:\n    listen:\n      to:\n        any:\n          with: {type: x}", 7, "do[0].a.listen.to.any", "expected a list of filters: each item begins with a hyphen, as in `- with`"),
    ("- a:\n    switch: {b: {then: end}}", 4, "do[0].a.switch", "expected a list of cases: each begins with a hyphen, as in `- b:`"),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "line", "key", "cause"), BAD)
def test_names_and_hyphens_that_are_not_where_they_belong_are_told_once(tasks, line, key, cause):
    assert faults_of(f"{HEAD}do:\n{tasks}") == [(line, key, cause)]


@pytest.mark.parametrize("name", ["set", "do", "wait", "then", "call"])
def test_a_task_may_be_called_like_a_key(name):
    tasks = f"- {name}: {{set: {{c: 1}}, then: nowhere}}"
    assert [key for _, key, _ in faults_of(f"{HEAD}do:\n{tasks}")] == [f"do[0].{name}.then"]
