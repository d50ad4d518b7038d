"""What an observer is told, and that it changes nothing."""

from __future__ import annotations

import pytest

from runner.interpreter.effects import EffectResult, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program


class Seen:
    """An observer: the tasks that started, by number and key, and the observations of those that ended."""

    def __init__(self):
        self.started = []
        self.ended = []

    def task_started(self, started):
        self.started.append((started.number, started.key, started.context))

    def task_ended(self, seen):
        self.ended.append(seen)


@pytest.fixture
def watch(evaluator):
    """Run tasks under an observer; returns the last step and a row for each task that ended."""

    def run(do, data=None, *, answer=None, observer=None):
        definition = {"document": {"name": "test"}, "do": do}
        seen = Seen()
        workflow = ExecutionContext("evt_1", definition, data, 1_700_000_000_000, lambda: 0)
        execution = ExecutionMachine(compile_program(definition, evaluator), workflow, observer=observer or seen)
        turn = execution.advance()
        while turn.perform:
            turn = execution.resume(turn.perform[0], answer)
        return turn.ending, seen.ended

    return run


def row(seen):
    return seen.node.pointer, seen.skipped, seen.input, seen.output, seen.then


def test_each_task_is_reported_when_it_ends_with_its_input_and_output(watch):
    step, seen = watch(
        [
            {"first": {"input": {"from": ".a"}, "set": {"b": "${ . + 1 }"}, "output": {"as": "{b, c: true}"}}},
            {"choose": {"switch": [{"yes": {"when": ".c", "then": "outer"}}]}},
            {"never": {"set": {"x": 1}}},
            {"outer": {"do": [{"inner": {"set": {"d": "${ .b }"}, "then": "exit"}}], "then": "end"}},
        ],
        {"a": 1},
    )
    assert step == WorkflowCompleted(b'{"d":2}')
    assert [row(item) for item in seen] == [
        ("/do/0/first", False, 1, {"b": 2, "c": True}, "continue"),
        ("/do/1/choose", False, {"b": 2, "c": True}, {"b": 2, "c": True}, "outer"),
        ("/do/3/outer/do/0/inner", False, {"b": 2, "c": True}, {"d": 2}, "exit"),
        ("/do/3/outer", False, {"b": 2, "c": True}, {"d": 2}, "end"),
    ]
    assert all(item.error is None for item in seen)


def test_a_skipped_task_says_so_and_one_that_works_on_null_does_not(watch):
    _, seen = watch([{"no": {"if": "false", "set": {"x": 1}}}, {"yes": {"if": "true", "set": {"x": "${ . }"}}}])
    assert [row(item) for item in seen] == [
        ("/do/0/no", True, None, None, "continue"),
        ("/do/1/yes", False, None, {"x": None}, "continue"),
    ]


def test_the_exported_context_is_shown(watch):
    _, seen = watch([{"keep": {"set": {"a": 1}, "export": {"as": "{kept: .a}"}}}, {"next": {"set": {"b": 2}}}], {})
    assert [item.context for item in seen] == [{"kept": 1}, {"kept": 1}]


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ({"set": {"x": "${ .a + 1 }"}}, "expression"),
        ({"call": "http", "with": {}, "metadata": {"retry": {"limit": {"attempt": {"count": 0}}}}}, "communication"),
        ({"input": {"schema": {"document": {"type": "string"}}}, "set": {"x": 1}}, "validation"),
    ],
)
def test_a_fault_is_reported_for_the_task_and_what_encloses_it_and_goes_on(watch, task, kind):
    away = EffectResult(None, error(Kind.COMMUNICATION, "away"))
    step, seen = watch([{"outer": {"do": [{"inner": task}]}}], {"a": []}, answer=away)
    assert isinstance(step, WorkflowFaulted)
    assert step.error.type.endswith(kind)
    assert [item.node.name for item in seen] == ["inner", "outer"]
    assert all((item.error, item.output, item.then, item.input) == (step.error, None, "", {"a": []}) for item in seen)


def test_what_an_observer_raises_ends_the_run(watch):
    class EnoughError(Exception):
        pass

    class Stop(Seen):
        def task_ended(self, seen):
            raise EnoughError

    with pytest.raises(EnoughError):
        watch([{"one": {"set": {"x": 1}}}, {"two": {"call": "http", "with": {}}}], observer=Stop())


def test_tasks_are_reported_when_they_start_with_the_numbers_and_keys_that_the_history_has(watch):
    loop = {"for": {"in": ".", "each": "x"}, "do": [{"in": {"set": {"y": "${ $x }"}, "export": {"as": "{n: .y}"}}}]}
    seen = Seen()
    _, _ = watch([{"each": loop}], [7, 8], observer=seen)
    assert seen.started == [
        (1, "/do/0/each", [7, 8]),
        (2, "/do/0/each/do/0/in[0]", [7, 8]),
        (3, "/do/0/each/do/0/in[1]", {"n": 7}),
    ]
    assert [each.number for each in seen.ended] == [2, 3, 1]
