"""A replay from the failed task, with what the router leaves of the journal: nothing that succeeded is done again."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.errors import ConflictError
from flowhook.model import RaiseOrigin, Status
from router.replay.resumption import from_failed_task
from router.storage.model import ExecutionContent, ExecutionRecord
from runner.interpreter import journal as journals
from runner.interpreter.effects import EffectResult, WorkflowFaulted
from runner.interpreter.errors import Kind, error

RAISE = {"raise": {"error": {"type": "https://example.com/no", "status": 500}}}
WHOLE = {"raise": {"error": "${ $e }"}}
FAILS = {"set": "${ error }"}


def call(name):
    return {"call": name}


def failing(execute, *names, then=()):
    """Return a world in which calls of these functions fail."""
    failed = EffectResult(None, error(Kind.RUNTIME, "away", status=503))
    return execute.World(dict.fromkeys(names, failed) | dict(then))


def replayed(execute, outcome, do, world, **more):
    """Replay what faulted from the failed task."""
    original = ExecutionRecord("evt_1", "shop", 1, Status.FAULTED, 1, 0, 5, outcome.error, seq=1)
    left = from_failed_task(original, ExecutionContent(b"", outcome.journal, None, None, 0), 1)
    return execute(do, {}, journal=left.journal, world=world, **more)


def performed(world):
    return [effect.function for effect in world.performed]


def handled(*handler):
    return [{"t": {"try": [{"b": call("b")}], "catch": {"as": "e", "do": list(handler)}}}, {"last": call("last")}]


@pytest.mark.parametrize("again", [RAISE, WHOLE])
def test_what_a_handler_did_is_not_done_again_when_the_call_fails_again(execute, again):
    do = handled({"notify": call("notify")}, {"more": call("more")}, {"again": again})
    world = failing(execute, "b")
    first = execute(do, {}, world=world)
    assert first.error.raising == RaiseOrigin("/do/0/t/catch/do/2/again", "/do/0/t/try/0/b#0")
    second = replayed(execute, first, do, world)
    third = replayed(execute, second, do, world)
    assert Counter(performed(world)) == {"b": 3, "notify": 1, "more": 1}
    del world.responses["b"]
    assert replayed(execute, third, do, world).output
    assert Counter(performed(world)) == {"b": 4, "notify": 1, "more": 1, "last": 1}


@pytest.mark.parametrize("cut", range(1, 6))
def test_what_is_held_survives_a_crash_anywhere(execute, cut):
    do = handled({"notify": call("notify")}, {"more": call("more")}, {"again": RAISE})
    world = failing(execute, "b")
    first = execute(do, {}, world=world)
    part = replayed(execute, first, do, world, stop_after=cut)
    again = execute(do, {}, journal=part.journal, world=world)
    assert again.error.raising == first.error.raising
    assert performed(world).count("notify") == performed(world).count("more") == 1


def test_what_is_held_survives_compaction(execute, monkeypatch):
    do = [{"t": {"try": [{"b": call("b")}, {"d": call("d")}],
           "catch": {"do": [{"notify": call("notify")}, {"again": RAISE}]}}}]  # fmt: skip
    world = failing(execute, "b")
    first = execute(do, {}, world=world)
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", 2)
    world.responses = {"d": world.responses["b"]}
    second = replayed(execute, first, do, world)
    snapshots = [entry for entry in second.journal if entry.key == "@"]
    assert [held[0] for entry in snapshots for held in orjson.loads(entry.output)["held"]]
    assert performed(world) == ["b", "notify", "b", "d"]
    last = max(index for index, entry in enumerate(second.journal) if entry.key == "@")
    assert execute(do, {}, journal=second.journal[last:], world=world).error
    assert performed(world).count("notify") == 1


def test_the_error_of_another_task_is_not_taken_for_the_one_that_was_raised_for(execute):
    inner = {"try": [{"prim": call("prim")}], "catch": {"do": [{"fallback": call("fallback")}]}}
    do = [{"t": {"try": [{"inner": inner}, {"s": FAILS}], "catch": {"do": [{"again": RAISE}]}}}]
    world = failing(execute, "prim")
    first = execute(do, {}, world=world)
    assert first.error.raising == RaiseOrigin("/do/0/t/catch/do/0/again", "")
    with pytest.raises(ConflictError) as caught:
        replayed(execute, first, do, world)
    assert caught.value.reason == "NOTHING_TO_RUN_ANEW"
    assert performed(world) == ["prim", "fallback"]


def test_the_error_of_another_iteration_is_not_taken_for_the_one_that_was_raised_for(execute):
    work = [{"first": {**call("first"), "if": "$index == 0"}}, {"s": {**FAILS, "if": "$index == 1"}}]
    catch = {"do": [{"notify": {**call("notify"), "if": "$index == 0"}}, {"again": {**RAISE, "if": "$index == 1"}}]}
    do = [{"l": {"for": {"in": "${ [1, 2] }"}, "do": [{"t": {"try": work, "catch": catch}}]}}]
    world = failing(execute, "first")
    first = execute(do, {}, world=world)
    with pytest.raises(ConflictError) as caught:
        replayed(execute, first, do, world)
    assert caught.value.reason == "NOTHING_TO_RUN_ANEW"
    assert performed(world) == ["first", "notify"]


def test_an_error_without_a_call_that_is_raised_again_whole_is_refused(execute):
    do = [{"t": {"try": [{"s": FAILS}], "catch": {"as": "e", "do": [{"notify": call("notify")}, {"again": WHOLE}]}}}]
    world = execute.World()
    first = execute(do, {}, world=world)
    assert first.error.instance == "/do/0/t/try/0/s"
    with pytest.raises(ConflictError):
        replayed(execute, first, do, world)


def test_what_is_raised_for_a_raise_in_a_handler_within_has_the_cause_of_that(execute):
    inner = {"try": [{"b": call("b")}], "catch": {"do": [{"notify": call("notify")}, {"inner": RAISE}]}}
    do = [{"t": {"try": [{"in": inner}], "catch": {"do": [{"outer": RAISE}]}}}]
    world = failing(execute, "b")
    first = execute(do, {}, world=world)
    assert first.error.raising == RaiseOrigin("/do/0/t/catch/do/0/outer", "/do/0/t/try/0/in/try/0/b#0")
    replayed(execute, first, do, world)
    assert performed(world) == ["b", "notify", "b"]


def test_a_timeout_that_was_handled_begins_anew(execute):
    do = [{"t": {"try": [{"w": {"do": [{"p": {"wait": {"seconds": 9}}}], "timeout": {"after": {"seconds": 1}}}}],
           "catch": {"do": [{"notify": call("notify")}, {"again": RAISE}]}}}]  # fmt: skip
    world = execute.World()
    first = execute(do, {}, world=world)
    assert first.error.raising.cause == "/do/0/t/try/0/w#0:timeout"
    assert replayed(execute, first, do, world).error.raising == first.error.raising
    assert performed(world) == ["notify"]


def test_what_ran_beside_a_call_that_failed_is_not_done_again(execute):
    fork = {"fork": {"branches": [{"p": call("p")}, {"b": call("b")}]}}
    do = [{"t": {"try": [{"f": fork}], "catch": {"do": [{"notify": call("notify")}, {"again": RAISE}]}}}]
    world = failing(execute, "b")
    first = execute(do, {}, world=world)
    replayed(execute, first, do, world)
    assert Counter(performed(world)) == {"p": 1, "b": 2, "notify": 1}


def blocks(depth=3):
    """Lists of tasks, some of which fail: calls by chance, others always; handlers go on, or raise."""
    leaves = st.sampled_from([call("f"), call("f"), FAILS, {"set": {"x": 1}}])
    if not depth:
        return st.lists(leaves, min_size=1, max_size=2).map(named)
    inner = blocks(depth - 1)
    handler = st.tuples(inner, st.sampled_from([[], [RAISE], [WHOLE]])).map(lambda parts: parts[0] + named(parts[1]))
    tasks = st.one_of(
        leaves,
        st.builds(lambda block, catch: {"try": block, "catch": {"as": "e", "do": catch}}, inner, handler),
        inner.map(lambda block: {"for": {"in": "${ [1, 2] }"}, "do": block}),
        inner.map(lambda block: {"fork": {"branches": block}}),
    )
    return st.lists(tasks, min_size=1, max_size=3).map(named)


def named(tasks):
    return [{f"t{index}{'r' if 'raise' in task else ''}": task} for index, task in enumerate(tasks)]


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=blocks(), fails=st.lists(st.booleans(), max_size=40))
def test_nothing_that_succeeded_is_ever_done_again(execute, do, fails):
    outcomes = list(fails)
    succeeded = Counter()

    def answer(effect):
        if outcomes and outcomes.pop():
            return EffectResult(None, error(Kind.RUNTIME, "away", status=503))
        succeeded[effect.key] += 1
        return {"n": 1}

    world = execute.World({"f": answer})
    outcome = execute(do, {}, world=world)
    for _ in range(4):
        if not isinstance(outcome.step, WorkflowFaulted):
            break
        try:
            outcome = replayed(execute, outcome, do, world)
        except ConflictError:
            break
        assert "diverged" not in getattr(getattr(outcome.step, "error", None), "detail", "")
    assert set(succeeded.values()) <= {1}
