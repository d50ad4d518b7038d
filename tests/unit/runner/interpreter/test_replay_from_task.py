"""Replays from a task, with what the router retains of the journal: they go on where the task began."""

from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.errors import ConflictError, NotFoundError
from flowhook.model import Status
from router.replay.journal_keys import locate_runs, position_of
from router.replay.resumption import cut_before, from_task
from router.storage.model import ExecutionContent, ExecutionRecord
from runner.interpreter import journal as journals
from runner.interpreter.effects import EffectResult, WorkflowFaulted
from runner.interpreter.errors import Kind, error

ORIGINAL = ExecutionRecord("evt_1", "shop", 1, Status.COMPLETED, 1, 0, 5, seq=1)


def call(name):
    return {"call": name}


def stored(outcome):
    """Return the journal as the router stores it: from the last snapshot on."""
    start = max((index for index, entry in enumerate(outcome.journal) if entry.key == "@"), default=0)
    return ExecutionContent(b"", outcome.journal[start:], None, None, start)


def retained(outcome, task, output=None):
    runs, content = locate_runs(outcome.fragments), stored(outcome)
    cut = cut_before(task, ORIGINAL, content, runs, 1)
    return from_task(task, cut, content, runs, output).journal


def replayed(execute, outcome, do, task, *, world=None, output=None, **more):
    return execute(do, {}, journal=retained(outcome, task, output), world=world or execute.World(), **more)


def performed(outcome):
    return [effect.function for effect in outcome.world.performed]


def test_pure_tasks_are_begun_at_as_well(execute):
    do = [
        {"a": call("a")},
        {"s": {"set": "${ {n: (.n + 1)} }"}},
        {"t": {"set": "${ {n: (.n * 2)} }"}},
        {"b": call("b")},
    ]
    outcome = execute(do, {})
    for task in ("/do/1/s", "/do/2/t", "/do/3/b"):
        assert performed(replayed(execute, outcome, do, task)) == ["b"]
    given = replayed(execute, outcome, do, "/do/1/s", output=b'{"n": 100}')
    assert performed(given) == ["b"]
    assert given.journal[-2].key == "/do/1/s#2.0:output"


def test_a_loop_continues_with_the_data_that_the_iterations_before_left(execute):
    body = [{"c": call("c")}, {"sum": {"set": "${ {total: ($input.n + 0)} }"}}]
    do = [{"l": {"for": {"in": "${ [1, 2, 3] }"}, "do": body}}]
    outcome = execute(do, {})
    again = replayed(execute, outcome, do, "/do/0/l/do/1/sum[1]")
    assert [effect.key for effect in again.world.performed] == ["/do/0/l/do/0/c[2]#0"]
    given = replayed(execute, outcome, do, "/do/0/l/do/0/c[2]", output=b'{"n": 7}')
    assert given.output == {"total": 7}
    assert performed(given) == []


def test_a_catch_is_begun_at_without_trying_again(execute):
    do = [{"t": {"try": [{"b": call("b")}], "catch": {"do": [{"notify": call("notify")}, {"more": call("more")}]}}}]
    world = execute.World({"b": EffectResult(None, error(Kind.RUNTIME, "away", status=503))})
    outcome = execute(do, {}, world=world)
    assert performed(replayed(execute, outcome, do, "/do/0/t/catch/do/0/notify")) == ["notify", "more"]
    assert performed(replayed(execute, outcome, do, "/do/0/t/catch/do/1/more")) == ["more"]
    assert performed(replayed(execute, outcome, do, "/do/0/t/try/0/b")) == ["b"]
    # the task that failed gets an output, and the catch is not entered
    assert performed(replayed(execute, outcome, do, "/do/0/t/try/0/b", output=b"1")) == []


def test_of_branches_beside_it_what_began_before_is_not_done_again(execute):
    branches = [{name: {"do": [{"x": call(f"{name}x")}, {"y": call(f"{name}y")}]}} for name in "pqr"]
    do = [{"f": {"fork": {"branches": branches}}}, {"last": call("last")}]
    outcome = execute(do, {})
    assert performed(outcome) == ["px", "qx", "rx", "py", "qy", "ry", "last"]
    again = replayed(execute, outcome, do, "/do/0/f/fork/branches/1/q/do/0/x")
    assert sorted(performed(again)) == ["last", "py", "qx", "qy", "rx", "ry"]
    later = replayed(execute, outcome, do, "/do/0/f/fork/branches/1/q/do/1/y")
    assert sorted(performed(later)) == ["last", "qy", "ry"]


def test_a_function_is_begun_at_in_the_middle(execute):
    use = {"functions": {"twice": {"do": [{"x": call("x")}, {"y": call("y")}]}}}
    do = [{"a": call("twice")}, {"b": call("twice")}]
    outcome = execute(do, {}, use=use)
    again = replayed(execute, outcome, do, "/do/0/a#0 /use/functions/twice/do/1/y", use=use)
    assert performed(again) == ["y", "x", "y"]


@pytest.mark.parametrize("cut", range(1, 7))
def test_it_survives_a_crash_anywhere(execute, cut):
    do = [{name: call(name)} for name in "abcdef"]
    outcome = execute(do, {})
    world = execute.World()
    part = replayed(execute, outcome, do, "/do/3/d", world=world, stop_after=cut)
    again = execute(do, {}, journal=part.journal, world=world)
    assert again.step.output
    assert performed(again)[:1] != ["a"]
    assert set(performed(again)) == set("def")


def test_a_compacted_journal_is_begun_after_its_snapshot_and_not_before(execute, monkeypatch):
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", 3)
    do = [{name: call(name)} for name in "abcde"]
    outcome = execute(do, {})
    with pytest.raises(ConflictError, match="/do/3/d"):
        retained(outcome, "/do/2/c")
    again = replayed(execute, outcome, do, "/do/4/e")
    assert performed(again) == ["e"]
    # that one has a history of its own, from where it began
    assert performed(replayed(execute, again, do, "/do/4/e")) == ["e"]


def leaves():
    pure = [{"set": "${ {x: 1} }"}, {"set": "${ error }"}, {"wait": {"seconds": 1}}]
    return st.sampled_from([call("f"), call("f"), call("f"), *pure])


def blocks(depth=3):
    if not depth:
        return st.lists(leaves(), min_size=1, max_size=2).map(named)
    inner = blocks(depth - 1)
    retry = {"delay": {"seconds": 1}, "limit": {"attempt": {"count": 2}}}
    tasks = st.one_of(
        leaves(),
        st.builds(lambda block, catch: {"try": block, "catch": {"do": catch}}, inner, inner),
        st.builds(lambda block, catch: {"try": block, "catch": {"retry": retry, "do": catch}}, inner, inner),
        inner.map(lambda block: {"for": {"in": "${ [1, 2] }"}, "do": block}),
        inner.map(lambda block: {"fork": {"branches": block}}),
        inner.map(lambda block: {"do": block, "timeout": {"after": {"hours": 1}}}),
    )
    return st.lists(tasks, min_size=1, max_size=3).map(named)


def named(tasks):
    return [{f"t{index}": task} for index, task in enumerate(tasks)]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=blocks(), fails=st.sets(st.integers(0, 15)), gives=st.booleans(), data=st.data())
def test_whatever_task_it_begins_with_the_journal_fits_and_what_ran_before_is_not_done_again(
    execute, do, fails, gives, data
):
    def answer(effect):
        failing = sum(effect.key.encode()) % 16 in fails
        return EffectResult(None, error(Kind.RUNTIME, "away", status=503)) if failing else {"n": 1}

    outcome = execute(do, {}, world=execute.World({"f": answer}))
    runs = locate_runs(outcome.fragments)
    run = data.draw(st.sampled_from(runs))
    first = next(each for each in runs if each.task == run.task)
    try:
        journal = retained(outcome, run.task, b"5" if gives else None)
    except ConflictError as error_:
        refused = error_
    else:
        refused = None
    if refused is not None:
        assert refused.reason == "JOURNAL_COMPACTED"
        assert any(entry.key == "@" for entry in outcome.journal)
        return
    again = execute(do, {}, journal=journal, world=execute.World({"f": answer}))
    problem = again.step.error if isinstance(again.step, WorkflowFaulted) else None
    assert problem is None or "diverged" not in problem.detail
    if gives:
        keys = [entry.key for entry in again.journal if entry.key.partition("#")[0] == run.task]
        # none if a branch beside it ends the execution at once
        assert keys[:1] in ([], [f"{run.task}#{first.number}.0:output"])
    else:
        # the same answers lead to the same end
        assert type(again.step) is type(outcome.step)
        assert problem is not None or again.output == outcome.output
    # by key: a branch beside a task whose output is given may go on, to retries that did not happen before
    succeeded = {entry.key for entry in outcome.journal if entry.error is None}
    before = {each.task for each in runs if each.number < first.number} - {
        each.task for each in runs if each.number >= first.number
    }
    done = {effect.key for effect in again.world.performed} & succeeded
    assert not [key for key in done if position_of(key).task in before]
    # and it can be replayed in its turn
    more = locate_runs(again.fragments)
    if more:
        second = data.draw(st.sampled_from(more)).task
        with contextlib.suppress(ConflictError, NotFoundError):
            third = replayed(execute, again, do, second, world=execute.World({"f": answer}))
            assert not isinstance(third.step, WorkflowFaulted) or "diverged" not in third.step.error.detail


def test_the_history_of_a_run_is_that_of_its_journal(execute):
    outcome = execute([{"a": call("a")}, {"b": {"set": {"x": 1}}}, {"c": call("c")}], {})
    assert [(index, [each[:2] for each in orjson.loads(text)]) for index, text in outcome.fragments if text] == [
        (0, [[1, "/do/0/a"]]),
        (1, [[1, "/do/0/a"], [2, "/do/1/b"], [3, "/do/2/c"]]),
        (2, [[3, "/do/2/c"]]),
    ]
