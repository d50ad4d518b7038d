"""A trace has what an observer of the run saw, whatever the flow and whatever its calls answered."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

CALL = {"call": "http", "with": {"method": "get", "endpoint": "https://example.com", "body": "${ . }"}}
SIMPLE = st.sampled_from(
    [
        {"set": {"n": "${ (.n // 0) + 1 }"}},
        {"set": {"at": "${ now }"}},
        {"set": "${ . }", "export": {"as": "{kept: .}"}},
        {"if": ".n == 1", "set": {"n": 7}},
        {"raise": {"error": {"type": "https://example.com/e", "status": 400}}},
        {"wait": {"seconds": 1}},
        CALL,
        CALL | {"metadata": {"retry": {"limit": {"attempt": {"count": 1}}, "delay": {"seconds": 1}}}},
    ]
)


def named(tasks):
    return [{f"t{index}": task} for index, task in enumerate(tasks)]


def composed(inner):
    tasks = st.lists(inner, min_size=1, max_size=3).map(named)
    return st.one_of(
        tasks.map(lambda items: {"do": items}),
        tasks.map(lambda items: {"for": {"in": "[1, 2]", "each": "x"}, "do": items}),
        tasks.map(lambda items: {"try": items, "catch": {"do": [{"c": {"set": {"caught": "${ $error.status }"}}}]}}),
        st.tuples(tasks, st.booleans()).map(lambda both: {"fork": {"branches": both[0], "compete": both[1]}}),
    )


FLOWS = st.lists(st.recursive(SIMPLE, composed, max_leaves=6), min_size=1, max_size=4).map(named)
ANSWERS = st.lists(st.sampled_from([EffectResult(b'{"n":2}'), 503, 404, EffectResult(b"null")]), max_size=8)


def answer(given):
    return EffectResult(None, error(Kind.COMMUNICATION, "no", status=given)) if isinstance(given, int) else given


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FLOWS, ANSWERS)
def test_a_trace_has_what_an_observer_of_the_run_saw(run, flow, answers):
    left = iter(answers)
    ran = run(flow, {"n": 0}, {"http": lambda _effect: answer(next(left, EffectResult(b'{"n":3}')))})
    assert ran.trace.diverged == ""
    known = {task.number: task for task in ran.trace.tasks}
    if not ran.trace.compacted:
        assert known.keys() >= ran.observed.ended.keys()
    for number in known.keys() & ran.observed.ended.keys():
        seen, task = ran.observed.ended[number], known[number]
        if task.outcome == "unfinished":
            continue  # before a compaction
        assert task.outcome == ("faulted" if seen.error else "skipped" if seen.skipped else "completed")
        assert (ran.value(task.input), ran.value(task.context_after)) == (seen.input, seen.context)
        assert ran.value(task.output) == seen.output
        assert task.then == seen.then
