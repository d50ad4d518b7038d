"""Replay: wherever an execution is cut, its journal leads to the same end, and no effect happens twice."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.model import JournalEntry
from runner.interpreter import control_tasks, tasks
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

DO = [
    {"first": {"call": "f", "with": {"v": "${ .start }"}, "export": {"as": "${ {first: .n} }"}}},
    {"keep": {"set": {"n": "${ .n }", "round": "${ (.round // 0) }"}}},
    {
        "loop": {
            "do": [
                {"call": {"call": "f", "output": {"as": "${ {n: .n, round: ($input.round + 1)} }"}}},
            ]
        }
    },
    {"again": {"switch": [{"more": {"when": ".round < 3", "then": "loop"}}]}},
    {"last": {"call": "f", "output": {"as": "${ {last: .n, first: $context.first} }"}}},
]


def test_effects_are_distinguished_by_place_and_visit(execute):
    outcome = execute(DO, {"start": 1})
    assert [entry.key for entry in outcome.journal] == [
        "/do/0/first#0",
        "/do/2/loop/do/0/call#0",
        "/do/2/loop/do/0/call#1",
        "/do/2/loop/do/0/call#2",
        "/do/4/last#0",
    ]
    assert outcome.output == {"last": 5, "first": 1}


@pytest.mark.parametrize("cut", range(6))
def test_an_execution_that_is_cut_anywhere_ends_the_same_and_repeats_nothing(execute, cut):
    whole = execute(DO, {"start": 1})
    world = execute.World()
    before = execute(DO, {"start": 1}, world=world, stop_after=cut)
    assert len(before.journal) == cut
    after = execute(DO, {"start": 1}, world=world, journal=before.journal)
    assert after.output == whole.output
    assert after.journal == whole.journal
    assert len(world.performed) == len(whole.world.performed)
    assert len({effect.key for effect in world.performed}) == len(world.performed)


def tasks_strategy():
    name = st.integers(0, 10**6).map(lambda number: f"t{number}")
    leaf = st.one_of(
        st.just({"call": "f", "output": {"as": "${ {n: .n} }"}}),
        st.just({"set": {"n": "${ (.n // 0) + 1 }"}}),
        st.just({"if": "(.n // 0) % 2 == 0", "call": "f"}),
    )
    blocks = st.recursive(
        leaf,
        lambda inner: st.lists(st.tuples(name, inner), min_size=1, max_size=4, unique_by=lambda pair: pair[0]).map(
            lambda pairs: {"do": [{key: value} for key, value in pairs]}
        ),
        max_leaves=12,
    )
    return st.lists(st.tuples(name, blocks), min_size=1, max_size=5, unique_by=lambda pair: pair[0]).map(
        lambda pairs: [{key: value} for key, value in pairs]
    )


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(do=tasks_strategy(), cuts=st.lists(st.integers(0, 12), max_size=3))
def test_any_flow_survives_any_cuts(execute, do, cuts):
    whole = execute(do, {"n": 0})
    world, journal = execute.World(), ()
    for cut in sorted(cuts):
        if cut >= len(journal):
            journal = execute(do, {"n": 0}, world=world, journal=journal, stop_after=cut).journal
    after = execute(do, {"n": 0}, world=world, journal=journal)
    assert after.output == whole.output
    assert after.journal == whole.journal
    assert [effect.key for effect in world.performed] == [effect.key for effect in whole.world.performed]


def test_a_journal_that_does_not_fit_is_a_fault_and_nothing_is_performed(execute):
    world = execute.World()
    outcome = execute(DO, {"start": 1}, world=world, journal=(JournalEntry("/do/9/other#0", b"1"),))
    assert "diverged" in outcome.error.detail
    assert (outcome.error.status, world.performed) == (500, [])


def test_a_journal_with_more_than_the_flow_comes_to_is_a_fault(execute):
    outcome = execute([{"a": {"set": {"x": 1}}}], {}, journal=(JournalEntry("/do/9/other#0", b"1"),))
    assert "diverged" in outcome.error.detail


def test_now_is_journaled_and_the_same_in_a_replay(execute):
    do = [{"a": {"set": {"at": "${ now }", "began": "${ $task.startedAt.epoch.milliseconds }"}}}, {"b": {"call": "f"}}]
    do[1]["b"]["output"] = {"as": "$input"}
    clock = execute.Clock(1_700_000_123_456)
    cut = execute(do, {}, clock=clock, stop_after=1)
    assert [entry.key for entry in cut.journal] == ["/do/0/a#0:now"]
    clock.now += 60_000
    assert execute(do, {}, clock=clock, journal=cut.journal).output == {
        "at": 1_700_000_123.456,
        "began": 1_700_000_123_456,
    }


def test_the_time_at_which_a_workflow_takes_its_input_and_gives_its_output_is_the_same_in_a_replay(execute):
    clock, more = execute.Clock(), {"input": {"from": "{began: now}"}, "output": {"as": "{began, ended: now}"}}
    do = [{"w": {"wait": {"seconds": 5}}}]
    outcome = execute(do, {}, clock=clock, **more)
    assert outcome.output == {"began": 1_700_000_001, "ended": 1_700_000_006}
    clock.now += 60_000
    assert execute(do, {}, clock=clock, journal=outcome.journal, **more).output == outcome.output


def test_a_transient_failure_is_tried_again_with_the_same_key_unless_a_try_takes_it(execute):
    failed = EffectResult(None, error(Kind.COMMUNICATION, "away", status=503))
    world = execute.World({"f": failed})
    assert execute([{"a": {"call": "f"}}], {}, world=world).error.status == 503
    assert [effect.key for effect in world.performed] == ["/do/0/a#0"] * 14
    world = execute.World({"f": failed})
    taken = {"try": [{"a": {"call": "f"}}], "catch": {"errors": {"with": {"status": 503}}}}
    assert execute([{"t": taken}], {"n": 1}, world=world).output == {"n": 1}
    assert len(world.performed) == 1
    world = execute.World({"f": failed})
    untaken = {"try": [{"a": {"call": "f"}}], "catch": {"errors": {"with": {"status": 404}}}}
    assert execute([{"t": untaken}], {}, world=world).error.status == 503
    assert len(world.performed) == 14


@pytest.mark.parametrize("bound", ["tasks", "items"])
def test_no_try_catches_that_an_execution_reached_its_limits(execute, monkeypatch, bound):
    monkeypatch.setattr(tasks, "MAX_TASKS", 1000)
    monkeypatch.setattr(control_tasks, "MAX_ITERATIONS", 10)
    endless = (
        [{"a": {"set": {"x": 1}, "then": "a"}}]
        if bound == "tasks"
        else [{"l": {"for": {"in": "[range(11)]"}, "do": []}}]
    )
    assert bound in execute([{"t": {"try": endless, "catch": {}}}], {}).error.detail


def test_a_loop_over_more_than_a_million_items_faults_before_its_first_iteration(execute):
    loop = {"for": {"in": "${ [range(1000001)] }"}, "do": [{"a": {"call": "f"}}]}
    world = execute.World()
    outcome = execute([{"l": loop}], {}, world=world)
    assert (outcome.error.type.rpartition("/")[2], outcome.error.instance) == ("runtime", "/do/0/l")
    assert "1000000 items" in outcome.error.detail
    assert (world.performed, outcome.journal) == ([], ())


def test_a_loop_over_a_million_items_runs(execute):
    loop = {
        "for": {"in": "${ [range(1000000)] }"},
        "while": "${ $index < 3 }",
        "do": [{"a": {"set": {"at": "${ $item }"}}}],
    }
    assert execute([{"l": loop}], {}).output == {"at": 2}


def test_a_fork_of_a_thousand_calls_is_answered(execute):
    do = [{"f": {"fork": {"branches": [{f"b{n}": {"call": "f"}} for n in range(1000)]}}}]
    assert len(execute(do, {}).output) == 1000
