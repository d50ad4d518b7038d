"""What an execution notes of its tasks, and tells with its journal and its end."""

from __future__ import annotations

import orjson

from flowhook import limits
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.history import MAX_TASKS, TaskHistory
from runner.interpreter.program import compile_program

START = 1_700_000_000_000
AWAY = EffectResult(None, error(Kind.COMMUNICATION, "away", status=503, instance="/do/1/a"))


def reported(text):
    return orjson.loads(text or b"[]")


def of(begun):
    """What a run told with the entries of its last turn, and what is left for the end."""
    return [reported(write.history) for write in begun.turn.writes], reported(begun.run.take_history())


def test_tasks_without_effects_are_reported_with_the_end(begin):
    begun = begin(
        [
            {"keep": {"set": {"a": 1}}},
            {"never": {"if": "${ false }", "set": {"a": 2}}},
            {"choose": {"switch": [{"yes": {"when": "${ true }", "then": "last"}}]}},
            {"passed": {"set": {"a": 3}}},
            {"last": {"set": {"a": 4}}},
        ]
    )
    assert of(begun) == (
        [],
        [
            [1, "/do/0/keep", START, START, 1, ""],
            [2, "/do/1/never", START, START, 1, "-"],
            [3, "/do/2/choose", START, START, 1, ">last"],
            [4, "/do/4/last", START, START, 1, ""],
        ],
    )


def test_a_call_is_reported_when_it_began_and_when_it_ended_and_how_often_it_was_tried(begin):
    begun = begin(
        [{"first": {"set": {"a": 1}}}, {"a": {"call": "f"}}, {"b": {"call": "f"}}], execution={"retry": "quick"}
    )
    begun.after(2, begun.effects[0], AWAY)
    assert reported(begun.turn.writes[0].history) == [
        [1, "/do/0/first", START, START, 1, ""],
        [2, "/do/1/a", START, 0, 1, ""],
    ]
    begun.after(5)
    begun.after(1, begun.effects[1])
    (ended, running) = of(begun)[1]
    assert ended == [2, "/do/1/a", START, START + 8000, 2, ""]
    assert running == [3, "/do/2/b", START + 8000, 0, 1, ""]


def test_what_an_attempt_reported_is_not_reported_by_the_next_one(evaluator, begin):
    do = [{"keep": {"set": {"a": 1}}}, {"a": {"call": "f"}}, {"last": {"set": {"a": 2}}}, {"b": {"call": "f"}}]
    begun = begin(do)
    begun.after(1, begun.effects[0])
    journal = [write.entry for write in begun.turn.writes]
    definition = {"document": {"name": "test"}, "do": do}
    later = ExecutionContext("evt_1", definition, {"n": 0}, START, lambda: START + 60_000)
    again = ExecutionMachine(compile_program(definition, evaluator), later, journal)
    again.advance()
    assert [task[:2] for task in reported(again.take_history())] == [[2, "/do/1/a"], [3, "/do/2/last"], [4, "/do/3/b"]]


def test_numbers_stay_the_same_over_a_compaction(execute):
    do = [{"each": {"for": {"in": "${ [range(120)] }"}, "do": [{"x": {"call": "f"}}]}}, {"after": {"set": {"a": 1}}}]
    whole = execute(do)
    compacted = [entry.key for entry in whole.journal]
    assert "@" in compacted
    resumed = execute(do, journal=whole.journal[: compacted.index("@") + 1])
    assert resumed.output == whole.output
    assert resumed.tasks[-2:] == whole.tasks[-2:]


def test_when_a_task_began_that_another_attempt_began_is_not_known():
    history = TaskHistory(lambda: START)
    history.end(history.begin(1, "/do/0/a", replaying=True), "", 1, replaying=False)
    assert reported(history.drain()) == [[1, "/do/0/a", 0, START, 1, ""]]


def test_how_a_task_failed_is_reported_in_short():
    history = TaskHistory(lambda: START)
    noted = history.begin(1, "/do/0/a", replaying=False)
    history.end(noted, "!500 " + "x" * 300, 3, replaying=False)
    ((_, _, _, _, tries, result),) = reported(history.drain())
    assert (tries, len(result)) == (3, 200)


def test_an_error_is_reported_with_its_status_and_detail_without_secrets(begin, execute):
    raised = {"type": "about:blank", "status": 400, "title": "No", "detail": '${ "not " + $secrets.token }'}
    outcome = execute([{"a": {"raise": {"error": raised}}}], {}, secrets={"token": "t0ken-0f-mine"})
    ((_, key, _, _, _, result),) = outcome.tasks
    assert (key, result) == ("/do/0/a", "!400 No: not …")


def test_what_is_reported_at_a_time_is_bounded_and_has_the_first_and_the_last():
    history = TaskHistory(lambda: START)
    for number in range(1, 10 * MAX_TASKS):
        history.end(history.begin(number, "/do/0/a", replaying=False), "", 1, replaying=False)
    numbers = [task[0] for task in reported(history.drain())]
    assert len(numbers) == MAX_TASKS
    assert (numbers[0], numbers[-1]) == (1, 10 * MAX_TASKS - 1)
    for number in range(1, MAX_TASKS):
        history.end(history.begin(number, "/" + "n" * 1000, replaying=False), "", 1, replaying=False)
    text = history.drain()
    assert 0 < len(text) <= limits.MAX_HISTORY_BYTES
    assert [reported(text)[0][0], reported(text)[-1][0]] == [1, MAX_TASKS - 1]
    assert history.drain() == b""


def test_branches_that_lose_are_reported_as_called_off(begin):
    branches = [{"quick": {"call": "f"}}, {"slow": {"wait": {"seconds": 9}}}]
    begun = begin([{"race": {"fork": {"compete": True, "branches": branches}}}])
    begun.after(1, begun.effects[0])
    left = {task[1]: task[5] for task in of(begun)[1]}
    assert left["/do/0/race/fork/branches/1/slow"] == "x"
    assert left["/do/0/race/fork/branches/0/quick"] == ""


def test_iterations_are_distinguished(begin):
    begun = begin([{"each": {"for": {"in": "${ [1, 2] }"}, "do": [{"x": {"set": {"a": 1}}}]}}])
    assert [task[1] for task in of(begun)[1]] == ["/do/0/each/do/0/x[0]", "/do/0/each/do/0/x[1]", "/do/0/each"]
